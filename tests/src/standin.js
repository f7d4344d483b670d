// What its arguments say, on the network: the Node.js half of src/bin/standin.rs.
"use strict";
const net = require("node:net");
const { spawn } = require("node:child_process");
const readline = require("node:readline");

const words = process.argv.slice(2);
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

function connect(address) {
  const at = address.lastIndexOf(":");
  const host = address.slice(0, at).replace(/^\[|\]$/g, "");
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port: Number(address.slice(at + 1)) });
    socket.on("error", reject);
    socket.on("connect", () => {
      console.log(`connected ${socket.remoteAddress}`);
      socket.end("hello\n");
    });
    socket.on("close", resolve);
    socket.resume();
  });
}

function run(program, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "inherit", "inherit"] });
    child.on("error", reject);
    child.on("exit", (code) => (code === 0 ? resolve() : reject(new Error(`${program}: ${code}`))));
  });
}

async function main() {
  while (words.length > 0) {
    const word = words.shift();
    if (word === "connect") {
      await connect(words.shift());
    } else if (word === "wait") {
      console.log("waiting");
      await lines.next();
    } else if (word === "run") {
      const [program, ...args] = words.splice(0);
      await run(program, args);
    } else {
      throw new Error(`unknown word ${word}`);
    }
  }
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
