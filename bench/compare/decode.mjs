// Tokens per second that llama.cpp decodes: node decode.mjs MODEL.gguf BATCH NEW PROMPT.txt MODULES, a line of JSON with the figures of
// three rounds. Every sequence of the batch gets the prompt behind a number of its own. MODULES holds node-llama-cpp, see decode.py.
import fs from 'fs'
import path from 'path'
import { pathToFileURL } from 'url'

const [model, batch, fresh, prompt, modules] = process.argv.slice(2)
const { getLlama } = await import(pathToFileURL(path.resolve(modules, 'node-llama-cpp/dist/index.js')))
const text = fs.readFileSync(prompt, 'utf8')
const llama = await getLlama({ gpu: false, build: 'never', maxThreads: 2, logLevel: 'error' })
const loaded = await llama.loadModel({ modelPath: model, gpuLayers: 0 })
const context = await loaded.createContext({ contextSize: 1024, sequences: Number(batch), threads: 2, batchSize: 512 })
const speeds = []
for (const round of [1, 2, 3]) {
  const sequences = Array.from({ length: Number(batch) }, () => context.getSequence())
  const tokens = sequences.map((_, i) => loaded.tokenize(`${10 * round + i} ${text}`))
  await Promise.all(sequences.map((s, i) => s.evaluateWithoutGeneratingNewTokens(tokens[i].slice(0, -1))))
  const begun = performance.now()
  await Promise.all(sequences.map(async (s, i) => {
    let left = Number(fresh)
    for await (const _ of s.evaluate(tokens[i].slice(-1), { temperature: 0, yieldEogToken: true })) if (--left === 0) break
  }))
  speeds.push(Number(batch) * Number(fresh) / (performance.now() - begun) * 1000)
  for (const s of sequences) await s.dispose()
}
console.log('RESULT ' + JSON.stringify({ built: llama.systemInfo, speeds }))
process.exit(0)
