// Runs a graph model in TensorFlow.js: node tfjs_peer.js MODEL.json PICTURES.bin ROWS COLUMNS > numbers as JSON
const fs = require("fs");
const path = require("path");
const tf = require("@tensorflow/tfjs");
const wasm = require("@tensorflow/tfjs-backend-wasm");

async function main(model, pictures, rows, columns) {
  wasm.setWasmPaths(path.dirname(require.resolve("@tensorflow/tfjs-backend-wasm")) + "/");
  await tf.setBackend("wasm");
  const content = JSON.parse(fs.readFileSync(model));
  const [group] = content.weightsManifest;
  const data = new Uint8Array(fs.readFileSync(path.join(path.dirname(model), group.paths[0]))).buffer;
  const { modelTopology, format, signature } = content;
  const graph = await tf.loadGraphModel(
    tf.io.fromMemory({ modelTopology, format, signature, weightSpecs: group.weights, weightData: data }));
  const all = fs.readFileSync(pictures);
  const size = rows * columns * 3;
  const answers = [];
  for (let begin = 0; begin < all.length; begin += size) {
    const picture = tf.tensor(Array.from(all.subarray(begin, begin + size)), [1, rows, columns, 3], "int32");
    answers.push(Array.from(await graph.execute(picture).data()));
  }
  console.log(JSON.stringify(answers));
}

const [model, pictures, rows, columns] = process.argv.slice(2);
main(model, pictures, Number(rows), Number(columns));
