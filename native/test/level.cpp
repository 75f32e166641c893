// The CPU library as a processor of a lower level has it, for tests: its objects, linked with --wrap=__cpu_indicator_init. Whatever
// chooses among instruction sets asks libgcc, the resolvers of KT_CLONES while the library is loaded and __builtin_cpu_supports,
// and libgcc is made to forget what it found: x86-64-v4, and x86-64-v3 where LEVEL is 2.
#include <cstdint>

extern "C" {

extern uint32_t __cpu_model[4];  // libgcc's: vendor, type, subtype, features
extern uint32_t __cpu_features2[1];  // more features; how many words is libgcc's affair

int __real___cpu_indicator_init(void);
int __wrap___cpu_indicator_init(void);

}

namespace {

// Clears the bit that makes a feature be there. Called before the library's own addresses are in place: calls nothing outside.
template <typename Supports>
void forget(volatile uint32_t* words, int count, const Supports& supports) {
    for (int bit = 0; bit < 32 * count && supports(); bit++) {
        const uint32_t kept = words[bit / 32];
        words[bit / 32] = kept & ~(1u << bit % 32);
        if (supports()) words[bit / 32] = kept;
    }
}

template <typename Supports>
void forget(const Supports& supports) {
    forget(__cpu_model + 3, 1, supports);
    forget(__cpu_features2, 4, supports);  // ends with the bit that is looked for
}

}  // namespace

int __wrap___cpu_indicator_init(void) {
    const int status = __real___cpu_indicator_init();
    forget([] {
        __asm__ volatile("" ::: "memory");
        return __builtin_cpu_supports("x86-64-v4") != 0;
    });
    if (LEVEL > 2) return status;
    forget([] {
        __asm__ volatile("" ::: "memory");
        return __builtin_cpu_supports("x86-64-v3") != 0;
    });
    return status;
}
