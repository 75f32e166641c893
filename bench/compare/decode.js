// Tokens per second that llama.cpp decodes: node decode.js MODEL.gguf BATCH NEW PROMPT.txt, one line of JSON. Every sequence of
// the batch gets the prompt behind a word of its own. Needs @fugood/llama.node, see decode.py.
const fs = require('fs')
const { loadModel } = require('@fugood/llama.node')

async function main([model, batch, fresh, prompt]) {
  const text = fs.readFileSync(prompt, 'utf8')
  const n = Number(batch)
  const context = await loadModel({ model, n_ctx: 1024 * n, n_batch: 512, n_ubatch: 512, n_parallel: n, n_gpu_layers: 0, n_threads: 2 })
  const options = i => ({ prompt: `${i} ${text}`, n_predict: Number(fresh), ignore_eos: true, temperature: 0, seed: 1 })
  const results = []
  if (n === 1) {
    for (const round of [1, 2]) results.push([await context.completion(options(round))])
  } else {
    if (!await context.parallel.enable({ n_parallel: n, n_batch: 512 })) throw new Error('no parallel mode')
    for (const round of [1, 2]) {
      const queued = []
      for (let i = 0; i < n; i++) queued.push(await context.parallel.completion(options(10 * round + i)))
      results.push(await Promise.all(queued.map(q => q.promise)))
    }
  }
  console.log('RESULT ' + JSON.stringify(results.map(r => r.map(s => s.timings))))
}

main(process.argv.slice(2)).then(() => process.exit(0)).catch(e => { console.error(e); process.exit(1) })
