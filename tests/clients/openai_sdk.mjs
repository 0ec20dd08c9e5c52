// OpenAI's own SDK for Node: chat, streams, tools, parsed outputs, responses, embeddings, errors.

import assert from 'node:assert/strict';

import OpenAI from 'openai';
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';

import { AFTER_TOOLS, BUSY, LISBON, NO_SUCH, SAID, SYSTEM, TEXT, TOOLS, main, refused } from './checks.mjs';

const City = z.object({ name: z.string(), size: z.number().int() });
const MESSAGES = [{ role: 'system', content: SYSTEM }, { role: 'user', content: SAID }];
const ASKED = MESSAGES.slice(1);
const FUNCTIONS = Object.entries(TOOLS).map(([name, [argument]]) => ({
  name,
  description: `The ${name}.`,
  parameters: { type: 'object', properties: { [argument]: { type: 'string' } }, required: [argument] },
}));
const CHAT_TOOLS = FUNCTIONS.map((made) => ({ type: 'function', function: made }));
const RESPONSE_TOOLS = FUNCTIONS.map((made) => ({ type: 'function', strict: false, ...made }));

const clientOf = ({ baseURL, key }) => new OpenAI({ baseURL, apiKey: key, maxRetries: 0 });

function counts(usage) {
  assert.equal(usage.prompt_tokens_details.cached_tokens, 40);
  return [usage.prompt_tokens, usage.completion_tokens];
}

function responseCounts(usage) {
  assert.equal(usage.input_tokens_details.cached_tokens, 40);
  return [usage.input_tokens, usage.output_tokens];
}

function results(calls) {
  assert.deepEqual(calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]), [
    ['weather', { city: 'Lisbon' }],
    ['clock', { zone: 'Lisbon' }],
  ]);
  return calls.map((call) => ({ role: 'tool', tool_call_id: call.id, content: TOOLS[call.function.name][1] }));
}

await main({
  async plain(gateway) {
    const chat = await clientOf(gateway).chat.completions.create({ model: gateway.model, messages: MESSAGES });
    assert.equal(chat.choices[0].message.content, TEXT);
    assert.match(chat._request_id, /^req_/);
    return [counts(chat.usage)];
  },
  async stream(gateway) {
    const client = clientOf(gateway);
    const given = { model: gateway.model, messages: MESSAGES, stream: true };
    let text = '';
    let pieces = 0;
    for await (const chunk of await client.chat.completions.create(given)) {
      text += chunk.choices[0].delta.content ?? '';
      pieces += 1;
    }
    assert.equal(text, TEXT);
    assert(pieces > 3, 'it came in pieces');
    const final = await client.chat.completions
      .stream({ ...given, stream_options: { include_usage: true } })
      .finalChatCompletion();
    assert.equal(final.choices[0].message.content, TEXT);
    return [counts(final.usage)];
  },
  async tools(gateway) {
    const { completions } = clientOf(gateway).chat;
    const given = { model: gateway.model, tools: CHAT_TOOLS };
    const first = await completions.create({ ...given, messages: ASKED });
    const { message } = first.choices[0];
    const second = await completions.create({ ...given, messages: [...ASKED, message, ...results(message.tool_calls)] });
    assert.equal(second.choices[0].message.content, AFTER_TOOLS);
    return [counts(first.usage), counts(second.usage)];
  },
  async tools_streamed(gateway) {
    const { completions } = clientOf(gateway).chat;
    const given = { model: gateway.model, tools: CHAT_TOOLS, stream: true };
    const first = await completions.stream({ ...given, messages: ASKED }).finalChatCompletion();
    const { message } = first.choices[0];
    const history = [...ASKED, message, ...results(message.tool_calls)];
    const second = await completions.stream({ ...given, messages: history }).finalChatCompletion();
    assert.equal(second.choices[0].message.content, AFTER_TOOLS);
    return [];
  },
  async tools_run(gateway) {
    const tools = FUNCTIONS.map((made) => ({
      type: 'function',
      function: { ...made, parse: JSON.parse, function: () => TOOLS[made.name][1] },
    }));
    const runner = clientOf(gateway).chat.completions.runTools({ model: gateway.model, messages: ASKED, tools });
    assert.equal(await runner.finalContent(), AFTER_TOOLS);
    return [];
  },
  async parse(gateway) {
    const { completions } = clientOf(gateway).chat;
    const given = { model: gateway.model, messages: MESSAGES, response_format: zodResponseFormat(City, 'city') };
    const chat = await completions.parse(given);
    assert.deepEqual(chat.choices[0].message.parsed, LISBON);
    const final = await completions.stream({ ...given, stream: true }).finalChatCompletion();
    assert.deepEqual(final.choices[0].message.parsed, LISBON);
    return [counts(chat.usage)];
  },
  async responses(gateway) {
    const { responses } = clientOf(gateway);
    const whole = await responses.create({ model: gateway.model, input: SAID, instructions: SYSTEM });
    assert.equal(whole.output_text, TEXT);
    assert.equal((await responses.retrieve(whole.id)).output_text, TEXT);
    const second = await responses
      .stream({ model: gateway.model, input: 'four', previous_response_id: whole.id })
      .finalResponse();
    assert.equal(second.output_text, 'You said: four — ça va?');
    await responses.delete(whole.id);
    await refused(OpenAI.NotFoundError, responses.retrieve(whole.id));
    return [responseCounts(whole.usage), responseCounts(second.usage)];
  },
  async responses_tools(gateway) {
    const { responses } = clientOf(gateway);
    const given = { model: gateway.model, tools: RESPONSE_TOOLS };
    const answered = (calls) =>
      calls.map(({ call_id, name }) => ({ type: 'function_call_output', call_id, output: TOOLS[name][1] }));
    const first = await responses.create({ ...given, input: SAID });
    assert.deepEqual(first.output.map((item) => item.name), ['weather', 'clock']);
    const kept = await responses.create({ ...given, input: answered(first.output), previous_response_id: first.id });
    assert.equal(kept.output_text, AFTER_TOOLS);
    const { output } = await responses.stream({ ...given, input: SAID }).finalResponse();
    assert.deepEqual(output.map((item) => JSON.parse(item.arguments)), [{ city: 'Lisbon' }, { zone: 'Lisbon' }]);
    return [responseCounts(first.usage), responseCounts(kept.usage)];
  },
  async responses_parse(gateway) {
    const parsed = await clientOf(gateway).responses.parse({
      model: gateway.model,
      input: SAID,
      text: { format: zodTextFormat(City, 'city') },
    });
    assert.deepEqual(parsed.output_parsed, LISBON);
    return [responseCounts(parsed.usage)];
  },
  async embeddings(gateway) {
    const { embeddings } = clientOf(gateway);
    if (!gateway.embeds) {
      await refused(OpenAI.BadRequestError, embeddings.create({ model: gateway.model, input: 'x' }));
      return [];
    }
    const made = await embeddings.create({ model: gateway.model, input: ['hello', 'a'] });
    assert.deepEqual(made.data.map((entry) => [...entry.embedding]), [[0.625, -0.5], [0.125, -0.5]]);
    return [[made.usage.prompt_tokens, 0]];
  },
  async errors(gateway) {
    const client = clientOf(gateway);
    const { completions } = client.chat;
    const unknown = await refused(
      OpenAI.BadRequestError,
      completions.create({ model: NO_SUCH, messages: MESSAGES }),
    );
    assert.equal(unknown.code, 'model_not_found');
    await refused(OpenAI.NotFoundError, client.models.retrieve(NO_SUCH));
    const busy = [{ role: 'user', content: BUSY }];
    await refused(OpenAI.RateLimitError, completions.create({ model: gateway.model, messages: busy }));
    const wrong = clientOf({ ...gateway, key: 'sk-wrong' });
    await refused(
      OpenAI.AuthenticationError,
      wrong.chat.completions.create({ model: gateway.model, messages: MESSAGES }),
    );
    return [];
  },
});
