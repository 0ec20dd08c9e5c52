// Vercel's AI SDK with its packages for OpenAI (chat and responses), OpenAI-compatible servers and Anthropic.

import assert from 'node:assert/strict';

import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, Output, embedMany, generateText, isStepCount, streamText, tool } from 'ai';
import { z } from 'zod';

import { AFTER_TOOLS, LISBON, NO_SUCH, SAID, SYSTEM, TEXT, TOOLS, main, refused } from './checks.mjs';

const City = z.object({ name: z.string(), size: z.number().int() });
const tools = Object.fromEntries(
  Object.entries(TOOLS).map(([name, [argument, result]]) => [
    name,
    tool({
      description: `The ${name}.`,
      inputSchema: z.object({ [argument]: z.string() }),
      execute: async (input) => (input[argument] === 'Lisbon' ? result : 'nothing'),
    }),
  ]),
);

const compatible = ({ baseURL, key }) =>
  createOpenAICompatible({
    name: 'gateway',
    baseURL,
    apiKey: key,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
const openai = ({ baseURL, key }) => createOpenAI({ baseURL, apiKey: key });
const PACKAGES = {
  chat: (gateway, model) => openai(gateway).chat(model),
  responses: (gateway, model) => openai(gateway).responses(model),
  compatible: (gateway, model) => compatible(gateway).chatModel(model),
  messages: ({ baseURL, key }, model) => createAnthropic({ baseURL, apiKey: key }).messages(model),
};

function counts(usage) {
  assert.equal(usage.inputTokenDetails.cacheReadTokens, 40, JSON.stringify(usage));
  return [usage.inputTokens, usage.outputTokens];
}

function checksOf(kind, make) {
  const asking = (gateway, more) => ({ model: make(gateway, gateway.model), prompt: SAID, maxRetries: 0, ...more });
  const quietly = { onError() {} }; // what goes wrong is thrown by what reads the stream's end
  return {
    async [`${kind}_text`](gateway) {
      const said = await generateText(asking(gateway, { instructions: SYSTEM }));
      assert.equal(said.text, TEXT);
      const streamed = streamText(asking(gateway, { instructions: SYSTEM, ...quietly }));
      const pieces = [];
      for await (const piece of streamed.textStream) pieces.push(piece);
      assert.equal(pieces.join(''), TEXT);
      assert(pieces.length > 3, 'it came in pieces');
      assert.equal(await streamed.finishReason, 'stop');
      return [counts(said.usage), counts(await streamed.usage)];
    },
    async [`${kind}_tools`](gateway) {
      const given = asking(gateway, { tools, stopWhen: isStepCount(3) });
      const said = await generateText(given);
      assert.equal(said.text, AFTER_TOOLS);
      assert.deepEqual(said.steps[0].toolCalls.map((call) => call.input), [{ city: 'Lisbon' }, { zone: 'Lisbon' }]);
      const streamed = streamText({ ...given, ...quietly });
      await streamed.consumeStream();
      const steps = await streamed.steps;
      assert.equal(steps.at(-1).text, AFTER_TOOLS);
      return [...said.steps, ...steps].map((step) => counts(step.usage));
    },
    async [`${kind}_output`](gateway) {
      const said = await generateText(asking(gateway, { output: Output.object({ schema: City }) }));
      assert.deepEqual(said.output, LISBON);
      return [counts(said.usage)];
    },
    async [`${kind}_errors`](gateway) {
      const asked = generateText({ ...asking(gateway), model: make(gateway, NO_SUCH) });
      const unknown = await refused(APICallError, asked);
      assert.equal(unknown.statusCode, kind === 'messages' ? 404 : 400);
      assert.match(unknown.message, /no-such-model/);
      return [];
    },
  };
}

async function embeddings(gateway) {
  for (const model of [openai(gateway).embeddingModel(gateway.model), compatible(gateway).embeddingModel(gateway.model)]) {
    const asked = embedMany({ model, values: ['hello', 'a'], maxRetries: 0 });
    if (gateway.embeds) {
      assert.deepEqual((await asked).embeddings, [[0.625, -0.5], [0.125, -0.5]]);
    } else {
      assert.equal((await refused(APICallError, asked)).statusCode, 400);
    }
  }
  return [];
}

const checks = Object.entries(PACKAGES).map(([kind, make]) => checksOf(kind, make));
await main({ ...Object.assign({}, ...checks), embeddings });
