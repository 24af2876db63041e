// Follows one train job to its end, whatever is restarted meanwhile. Written from docs/protocol.md alone.
//
//   npm install zeromq @msgpack/msgpack
//   node follow.mjs <home> <job>        for example: node follow.mjs var train-7
//
// One line of JSON for each thing that happened to the job: {"state", "step", "steps", "loss", "why"}. The exit code is 0
// if the job has succeeded. Talk goes to stderr.

import { randomUUID } from "node:crypto";
import { decode, encode } from "@msgpack/msgpack";
import { Dealer, Subscriber } from "zeromq";

const [home, job] = process.argv.slice(2);
const ENDED = new Set(["succeeded", "failed", "cancelled", "quarantined", "rejected"]);
const SILENT_SECONDS = 5;
const newId = () => randomUUID().replaceAll("-", "");

// Sends the same bytes again and again until the answer to them comes, as docs/protocol.md wants it.
async function ask(path, type, fields = {}) {
  const id = newId();
  const payload = encode({ v: 1, type, request_id: id, ...fields });
  const socket = new Dealer({ linger: 0, receiveTimeout: 1000 });
  socket.connect(`ipc://${home}/run/${path}`);
  try {
    for (;;) {
      await socket.send([Buffer.alloc(0), payload]);
      try {
        const answer = decode((await socket.receive()).at(-1));
        if (answer.request_id !== id) continue;
        if (answer.reply.type !== "Refused") return answer.reply;
        if (answer.reply.code !== "busy") throw new Error(`${answer.reply.message} ${answer.reply.mend}`);
      } catch (error) {
        if (error.code !== "EAGAIN") throw error;
        console.error(`${path} does not answer yet`);
      }
    }
  } finally {
    socket.close();
  }
}

let picture = null;
let shown = "";

// What the picture says of the job; null if it neither runs nor waits.
function standing() {
  const running = picture.running_job;
  if (running?.job === job)
    return { state: "running", step: running.step, steps: running.steps, loss: running.loss, why: picture.why };
  const waiting = picture.waiting.find((each) => each.id === job);
  return waiting ? { state: waiting.state, step: 0, steps: 0, loss: null, why: waiting.why } : null;
}

function show(found) {
  const line = JSON.stringify(found);
  if (line !== shown) console.log(line);
  shown = line;
}

async function look() {
  const found = standing();
  if (found) return show(found);
  // It has ended, or is none of the first hundred: the broker knows.
  const view = (await ask("broker.sock", "ShowJob", { job })).job;
  show({ state: view.state, step: view.result?.steps_done ?? 0, steps: view.result?.steps_planned ?? 0,
         loss: view.result?.last_loss ?? null, why: view.reason });
  if (ENDED.has(view.state)) process.exit(view.state === "succeeded" ? 0 : 1);
}

async function catchUp(why) {
  console.error(`asking for the whole picture: ${why}`);
  picture = (await ask("picture.sock", "GetPicture")).picture;
}

const published = new Subscriber({ linger: 0, receiveTimeout: SILENT_SECONDS * 1000 });
published.subscribe("status", "delta", "heartbeat");
published.connect(`ipc://${home}/run/status.sock`);
await catchUp("the beginning");
await look();
for (;;) {
  let topic, payload;
  try {
    [topic, payload] = await published.receive();
  } catch (error) {
    if (error.code !== "EAGAIN") throw error;
    console.error(`the status process has not been heard of for ${SILENT_SECONDS} s`);
    continue;
  }
  const message = decode(payload);
  const sameLife = message.session === picture.session;
  switch (topic.toString()) {
    case "status":
      if (!sameLife || message.n >= picture.n) picture = message;
      break;
    case "delta":
      if (sameLife && message.n <= picture.n) continue;
      if (sameLife && message.n === picture.n + 1) {
        picture = { ...picture, ...message.changed, n: message.n, at: message.at };
      } else {
        await catchUp(`change ${message.n} after ${picture.n}`);
      }
      break;
    case "heartbeat":
      if (sameLife && message.n <= picture.n) continue;
      await catchUp(`there were ${message.n} changes, and ${picture.n} are known`);
      break;
  }
  await look();
}
