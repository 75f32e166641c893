/*
 * The image table: what of a picture's way to the vision tower is native, from coded bytes to float32.
 *
 * The CPU library exports it beside its kernel table. Every member returns a status, 0 for success, and leaves a text in
 * last_error otherwise. Headers are read and refused by the caller; here every size, offset and index is checked again, so
 * that no bytes of a file and no argument make a member touch memory that is not its own. Every result is rounded in
 * one way, so that it is the same on every machine.
 */
#ifndef LAPIDARY_IMAGE_H
#define LAPIDARY_IMAGE_H

#include <stdint.h>

#define IM_ABI 1

#define IM_OK 0
#define IM_BAD_ARGUMENT 1
#define IM_OUT_OF_MEMORY 2
#define IM_DAMAGED 3 /* the scan's fault says what */

/* What is wrong with a scan; position is where reading has come to, a byte of the file. */
#define IM_DC_BITS 1        /* value: a DC coefficient has more bits than there are */
#define IM_LONG_RUN 2       /* a run beyond the end of a block */
#define IM_UNKNOWN_CODE 3   /* a Huffman code that the table has not */
#define IM_REFINED_BITS 4   /* value: a refining scan holds a coefficient of so many bits */
#define IM_ENDS_IN_PIXELS 5 /* row: the data ends, or a marker comes, near that row of pixels */
#define IM_ENDS_IN_MARKER 6 /* the data ends where a marker is looked for */
#define IM_OTHER_MARKER 7   /* value: marker ff<value> is where the restart marker ff<expected> belongs */

/* Bits of a coefficient that the successive scans of a progressive frame may add, at most: T.81, G.1.1.1.2. */
#define IM_MAX_LOW 13

/* What the components of a JPEG mean. */
#define IM_GREY 0
#define IM_RGB 1
#define IM_YCC 2
#define IM_CMYK 3 /* stored as 255 minus the ink */
#define IM_YCCK 4

/* Whose rounding of a resize's weights. */
#define IM_TORCHVISION 0 /* the most binary places, up to 22, with which an axis's weights fit int16 */
#define IM_PILLOW 1      /* 22 binary places */

/* The memory of one picture's way, for one thread at a time. */
typedef struct im_ctx im_ctx;

typedef struct im_frame {
    int32_t width; /* 1 to 65535 pixels */
    int32_t height;
    int32_t components;  /* 1, 3 or 4 */
    int32_t progressive; /* 0 or 1 */
    int32_t across[4];   /* sampling factors of each component, 1 to 4, that divide the largest */
    int32_t down[4];
} im_frame;

typedef struct im_scan {
    int64_t position; /* where its coded data begin; on return, where reading has come to */
    int32_t components;
    int32_t component[4]; /* numbers of different components of the frame */
    int32_t dc_table[4];  /* numbers of Huffman tables, 0 to 3, of those */
    int32_t ac_table[4];
    int32_t restart_interval; /* MCUs between restart markers; 0 if there are none */
    int32_t first;            /* coefficients in zigzag order: 0 to 63 in a sequential frame */
    int32_t last;
    int32_t high; /* the bit known from earlier scans, or 0 */
    int32_t low;  /* the bit that this scan brings, up to IM_MAX_LOW */
    int32_t fault;
    int32_t value;
    int32_t expected;
    int32_t row;
} im_scan;

typedef struct im_table {
    int32_t abi;   /* IM_ABI */
    int32_t bytes; /* sizeof(im_table) */

    int32_t (*context_create)(im_ctx** out);
    /* Frees all that the context has given. */
    int32_t (*context_destroy)(im_ctx*);
    /* Text of the last failure on this context; valid until the next call. */
    const char* (*last_error)(im_ctx*);
    /* Memory that lives as long as the context; what is in it is not specified. */
    int32_t (*allocate)(im_ctx*, void** out, int64_t bytes);

    /* ---- JPEG: of one file a context -------------------------------------------------------------------------- */

    /* The whole file, which has to stay where it is until the context is destroyed. */
    int32_t (*jpeg_file)(im_ctx*, const uint8_t* data, int64_t length);
    /* A Huffman table: 16 counts and the symbols, at that byte of the file. ac: 0 or 1; number: 0 to 3. */
    int32_t (*jpeg_codes)(im_ctx*, int32_t ac, int32_t number, int64_t position);
    int32_t (*jpeg_frame)(im_ctx*, const im_frame* frame);
    /* A component's 64 quantisers in zigzag order, at that byte of the file, of one byte or (wide) of two. */
    int32_t (*jpeg_quantisers)(im_ctx*, int32_t component, int64_t position, int32_t wide);
    /* Reads a scan's coefficients; those of a sequential frame become samples at once, whose quantisers must be known. */
    int32_t (*jpeg_scan)(im_ctx*, im_scan* scan);
    /* rgb[height, width, 3]: what has been read, as libjpeg-turbo's defaults upsample and convert it; space is IM_GREY to
       IM_YCCK, of as many components as the frame has. */
    int32_t (*jpeg_pixels)(im_ctx*, uint8_t* rgb, int64_t bytes, int32_t space);

    /* ---- from pixels to values --------------------------------------------------------------------------------- */

    /* codes[3, height, width]: rgb[rgb_height, rgb_width, 3] resized by an antialiased triangle, first along x, rounded to
       8 bits after each axis. An axis that keeps its length is not touched. Sides are 1 to 65535. */
    int32_t (*resize)(im_ctx*, uint8_t* codes, const uint8_t* rgb, int64_t width, int64_t height, int64_t rgb_width,
                      int64_t rgb_height, int32_t rounding);
    /* y[i] = ((float)(codes[i] * factor) - mean) / std, the product in double. */
    int32_t (*normalise)(im_ctx*, float* y, const uint8_t* codes, int64_t n, double factor, float mean, float std);
} im_table;

#ifdef __cplusplus
extern "C" {
#endif
const im_table* lapidary_images(void);
#ifdef __cplusplus
}
#endif

#endif
