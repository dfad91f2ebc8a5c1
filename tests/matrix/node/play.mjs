// Plays the cells of the matrix with the Node clients: a list of plays as JSON on stdin, what was seen of each on stdout.
import { readFileSync } from "node:fs";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { aiPlayer } from "./ai.mjs";

const AT_ONCE = 8;
const { roots, key, plays } = JSON.parse(readFileSync(0, "utf8"));
const tape = new Map(plays.map((play) => [play.key, []]));

// A fetch that keeps what is sent and got, by the play that is named in a header.
async function recording(url, options) {
  const own = new Headers(options.headers).get("x-cell");
  const exchange = { sent: Buffer.from(options.body), got: [] };
  tape.get(own).push(exchange);
  const response = await fetch(url, options);
  exchange.headers = Object.fromEntries(response.headers);
  if (response.body === null) return response;
  const [kept, given] = response.body.tee();
  exchange.all = (async () => {
    for await (const part of kept) exchange.got.push(Buffer.from(part));
  })().catch(() => {});
  return new Response(given, response);
}

const openai = {};
const anthropic = {};
for (const [name, root] of Object.entries(roots)) {
  openai[name] = new OpenAI({ baseURL: `${root}/v1`, apiKey: key, fetch: recording });
  anthropic[name] = new Anthropic({ baseURL: root, apiKey: key, fetch: recording });
}

async function askOpenai(play, seen) {
  let resource = openai[play.proxy];
  for (const name of play.dialect.split(".")) resource = resource[name];
  const more = { headers: { "x-cell": play.key } };
  if (!play.streaming) {
    seen.objects.push(await resource.create(play.request, more));
  } else if (resource.stream) {
    const events = resource.stream(play.request, more); // the helper, which puts the answer together
    for await (const event of events) seen.objects.push(event);
    await events.done();
  } else {
    for await (const event of await resource.create({ ...play.request, stream: true }, more)) seen.objects.push(event);
  }
}

async function askAnthropic(play, seen) {
  const { messages } = anthropic[play.proxy];
  const more = { headers: { "x-cell": play.key } };
  if (play.streaming) seen.objects.push(await messages.stream(play.request, more).finalMessage());
  else if (play.dialect === "messages") seen.objects.push(await messages.create(play.request, more));
  else seen.objects.push(await messages.countTokens(play.request, more));
}

const players = { "openai-node": askOpenai, "anthropic-node": askAnthropic, "ai-sdk": aiPlayer(roots, key, recording) };

async function one(play) {
  const seen = { key: play.key, objects: [], status: 200, error: null };
  try {
    await players[play.client](play, seen);
  } catch (error) {
    seen.status = error.status ?? error.statusCode ?? 0;
    seen.error = error.error ?? error.body ?? String(error);
  }
  seen.exchanges = [];
  for (const { sent, headers, got, all } of tape.get(play.key)) {
    await all;
    seen.exchanges.push([sent.toString("base64"), headers, Buffer.concat(got).toString("base64")]);
  }
  process.stdout.write(`${JSON.stringify(seen)}\n`);
}

const waiting = plays.values();
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (const play of waiting) await one(play);
  }),
);
