// Anthropic's own SDK for Node: messages, streams, tools and their runner, parsed outputs, counts, errors.

import assert from 'node:assert/strict';

import Anthropic from '@anthropic-ai/sdk';
import { betaZodTool } from '@anthropic-ai/sdk/helpers/beta/zod';
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod';
import { z } from 'zod';

import { AFTER_TOOLS, BUSY, LISBON, NO_SUCH, SAID, SYSTEM, TEXT, TOOLS, main, refused } from './checks.mjs';

const City = z.object({ name: z.string(), size: z.number().int() });
const MESSAGES = [{ role: 'user', content: SAID }];
const DEFINITIONS = Object.entries(TOOLS).map(([name, [argument]]) => ({
  name,
  description: `The ${name}.`,
  input_schema: { type: 'object', properties: { [argument]: { type: 'string' } }, required: [argument] },
}));

const clientOf = ({ url, key }) => new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 });
const asking = ({ model }, more = {}) => ({ model, max_tokens: 500, messages: MESSAGES, ...more });

function counts(usage) {
  assert.equal(usage.cache_read_input_tokens, 40);
  return [usage.input_tokens + usage.cache_read_input_tokens, usage.output_tokens];
}

function answered(gateway, first) {
  assert.equal(first.stop_reason, 'tool_use');
  assert.deepEqual(first.content.map(({ name, input }) => [name, input]), [
    ['weather', { city: 'Lisbon' }],
    ['clock', { zone: 'Lisbon' }],
  ]);
  const results = first.content.map(({ id, name }) => ({ type: 'tool_result', tool_use_id: id, content: TOOLS[name][1] }));
  const messages = [...MESSAGES, { role: 'assistant', content: first.content }, { role: 'user', content: results }];
  return asking(gateway, { messages, tools: DEFINITIONS });
}

await main({
  async plain(gateway) {
    const message = await clientOf(gateway).messages.create(asking(gateway, { system: SYSTEM }));
    assert.deepEqual(message.content.map(({ type, text }) => [type, text]), [['text', TEXT]]);
    assert.match(message._request_id, /^req_/);
    return [counts(message.usage)];
  },
  async stream(gateway) {
    const stream = clientOf(gateway).messages.stream(asking(gateway, { system: SYSTEM }));
    const pieces = [];
    stream.on('text', (piece) => pieces.push(piece));
    const final = await stream.finalMessage();
    assert(pieces.length > 3, 'it came in pieces');
    assert.equal(pieces.join(''), TEXT);
    assert.equal(final.stop_reason, 'end_turn');
    return [counts(final.usage)];
  },
  async tools(gateway) {
    const { messages } = clientOf(gateway);
    const first = await messages.create(asking(gateway, { tools: DEFINITIONS }));
    const second = await messages.create(answered(gateway, first));
    assert.equal(second.content[0].text, AFTER_TOOLS);
    return [counts(first.usage), counts(second.usage)];
  },
  async tools_streamed(gateway) {
    const { messages } = clientOf(gateway);
    const first = await messages.stream(asking(gateway, { tools: DEFINITIONS })).finalMessage();
    const second = await messages.stream(answered(gateway, first)).finalMessage();
    assert.equal(second.content[0].text, AFTER_TOOLS);
    return [counts(first.usage), counts(second.usage)];
  },
  async tools_run(gateway) {
    const tools = Object.entries(TOOLS).map(([name, [argument, result]]) =>
      betaZodTool({
        name,
        description: `The ${name}.`,
        inputSchema: z.object({ [argument]: z.string() }),
        run: (input) => (input[argument] === 'Lisbon' ? result : 'nothing'),
      }),
    );
    for (const stream of [false, true]) {
      const final = await clientOf(gateway).beta.messages.toolRunner(asking(gateway, { tools, stream }));
      assert.equal(final.content[0].text, AFTER_TOOLS);
    }
    return [];
  },
  async parse(gateway) {
    const given = asking(gateway, { output_config: { format: zodOutputFormat(City) } });
    const parsed = await clientOf(gateway).messages.parse(given);
    assert.deepEqual(parsed.parsed_output, LISBON);
    return [counts(parsed.usage)];
  },
  async count_tokens(gateway) {
    const counted = await clientOf(gateway).messages.countTokens({
      model: gateway.model,
      messages: MESSAGES,
      tools: DEFINITIONS,
    });
    assert(counted.input_tokens > 10 && counted.input_tokens < 1000);
    return [];
  },
  async errors(gateway) {
    const { messages } = clientOf(gateway);
    await refused(Anthropic.NotFoundError, messages.create(asking(gateway, { model: NO_SUCH })));
    const busy = [{ role: 'user', content: BUSY }];
    await refused(Anthropic.RateLimitError, messages.create(asking(gateway, { messages: busy })));
    const wrong = clientOf({ ...gateway, key: 'sk-wrong' });
    await refused(Anthropic.AuthenticationError, wrong.messages.create(asking(gateway)));
    const names = [];
    for await (const model of clientOf(gateway).models.list()) names.push(model.id);
    assert(names.includes(gateway.model));
    return [];
  },
});
