// Prints llama.cpp's likeliest next tokens: node llama.js MODEL.gguf MMPROJ.gguf|- PROMPTS.jsonl, a line of JSON a prompt.
// A prompt has text, with <start_of_image> for each of images. Needs @fugood/llama.node, see check.py.
const fs = require('fs')
const { loadModel } = require('@fugood/llama.node')

async function main([model, mmproj, prompts]) {
  let tokenizer
  for (const line of fs.readFileSync(prompts, 'utf8').trim().split('\n')) {
    const { text, images, tokenize } = JSON.parse(line)
    if (tokenize) { // ids alone
      tokenizer ??= await loadModel({ model, n_ctx: 64, n_gpu_layers: 0 })
      console.log('RESULT ' + JSON.stringify({ ids: Object.values((await tokenizer.tokenize(text)).tokens) }))
      continue
    }
    const context = await loadModel({ model, n_ctx: 2048, n_batch: 1024, n_ubatch: 1024, n_gpu_layers: 0, n_threads: 2,
      flash_attn_type: 'off', cache_type_k: 'f32', cache_type_v: 'f32' }) // F32, or the cache is F16
    if (images.length > 0) context.initMultimodal({ path: mmproj, use_gpu: false })
    // llama.cpp sets <bos> itself, and the marks around an image, but not the blank lines around those.
    const prompt = text.replace('<bos>', '').replaceAll('<start_of_image>', '\n\n<__media__>\n\n')
    const ids = images.length > 0 ? [] : Object.values((await context.tokenize(prompt)).tokens)
    const result = await context.completion({ prompt, ...(images.length > 0 ? { media_paths: images } : {}), n_predict: 2,
      temperature: 1, n_probs: 100, top_k: 0, top_p: 1, min_p: 0, typical_p: 1, penalty_repeat: 1, seed: 1, samplers: [] })
    console.log('RESULT ' + JSON.stringify({ ids, top: result.completion_probabilities[0].probs.map(p => [p.tok_str, Math.log(p.prob)]) }))
  }
}

// The package crashes now and then when a context is released, so the process ends with all of them open.
main(process.argv.slice(2)).then(() => process.exit(0)).catch(e => { console.error(String(e)); process.exit(1) })
