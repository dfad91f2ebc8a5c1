// The AI SDK with its providers for OpenAI's APIs: what its user sees, told as the choices of the matrix are.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, embedMany, generateText, jsonSchema, streamText, tool } from "ai";

globalThis.AI_SDK_LOG_WARNINGS = false;

// A conversation in the shape of chat completions as the AI SDK's own.
function conversation(messages) {
  return messages.map(({ role, content, tool_calls, tool_call_id, reasoning_content }) => {
    if (role === "tool") {
      const output = { type: "text", value: content };
      return { role, content: [{ type: "tool-result", toolCallId: tool_call_id, toolName: "book", output }] };
    }
    if (role !== "assistant") return { role, content: Array.isArray(content) ? content.map(part) : content };
    const parts = [];
    const kept = { providerOptions: { openai: { itemId: "rs_0", reasoningEncryptedContent: "c2VhbGVk" } } };
    if (reasoning_content) parts.push({ type: "reasoning", text: reasoning_content, ...kept });
    if (content) parts.push({ type: "text", text: content });
    for (const { id, function: called } of tool_calls ?? [])
      parts.push({ type: "tool-call", toolCallId: id, toolName: called.name, input: JSON.parse(called.arguments) });
    return { role, content: parts };
  });
}

const part = (own) => (own.type === "text" ? own : { type: "image", image: own.image_url.url });

function tools(given) {
  const named = (given ?? []).map((own) => own.function ?? own);
  return Object.fromEntries(named.map((own) => [own.name, tool({ inputSchema: jsonSchema(own.parameters) })]));
}

const models = {
  "chat.completions": ({ compatible }, name) => compatible.chatModel(name),
  completions: ({ compatible }, name) => compatible.completionModel(name),
  responses: ({ openai }, name) => openai.responses(name),
};

async function say(play, provider, more, seen) {
  const { request } = play;
  const asked = {
    model: models[play.dialect](provider, request.model),
    ...(request.messages ? { messages: conversation(request.messages) } : { prompt: request.prompt }),
    ...(request.tools ? { tools: tools(request.tools) } : {}),
    allowSystemInMessages: true,
    providerOptions: { openai: { store: false } },
    ...more,
  };
  const choice = {};
  if (!play.streaming) {
    const result = await generateText(asked);
    Object.assign(choice, { text: result.text, reasoning: result.reasoningText, end: result.finishReason });
    for (const call of result.toolCalls) choice.tool = JSON.stringify(call.input);
  } else {
    for await (const event of streamText({ ...asked, onError() {} }).fullStream) {
      if (event.type === "text-delta") choice.text = (choice.text ?? "") + event.text;
      if (event.type === "reasoning-delta") choice.reasoning = (choice.reasoning ?? "") + event.text;
      if (event.type === "tool-call") choice.tool = JSON.stringify(event.input);
      if (event.type === "finish") choice.end = event.finishReason;
      if (event.type === "error") throw event.error;
    }
  }
  seen.objects.push(Object.fromEntries(Object.entries(choice).filter(([, value]) => value)));
}

async function vectors(play, { compatible }, more, seen) {
  const model = compatible.embeddingModel(play.request.model);
  const { input } = play.request;
  const result = Array.isArray(input)
    ? await embedMany({ model, values: input, ...more })
    : await embed({ model, value: input, ...more });
  for (const vector of result.embeddings ?? [result.embedding]) seen.objects.push({ vector });
}

export function aiPlayer(roots, apiKey, fetch) {
  const providers = {};
  for (const [name, root] of Object.entries(roots)) {
    const baseURL = `${root}/v1`;
    providers[name] = {
      compatible: createOpenAICompatible({ name: "guardrail", baseURL, apiKey, fetch }),
      openai: createOpenAI({ baseURL, apiKey, fetch }),
    };
  }
  return async (play, seen) => {
    const more = { headers: { "x-cell": play.key }, maxRetries: 0 }; // it knows no x-should-retry
    try {
      await (play.dialect === "embeddings" ? vectors : say)(play, providers[play.proxy], more, seen);
    } catch (error) {
      const { statusCode, responseBody, data } = error;
      if (error instanceof Error && !responseBody && !data) throw error; // no answer of the proxy's
      throw { status: data && !responseBody ? 0 : (statusCode ?? 0), error: responseBody ? JSON.parse(responseBody) : (data ?? error) };
    }
  };
}
