// What the scripts for Node share; checks.py says it for Python. Each check is a function that gives the tokens that
// its client was told, as [input, output] for each call that told any.

import assert from 'node:assert/strict';

export const SYSTEM = 'Be brief.';
export const SAID = 'one two three';
export const BUSY = 'Are you busy?';
export const TEXT = '[Be brief.] You said: one two three — ça va?';
export const AFTER_TOOLS = 'The tools said: sunny, noon — ça va?';
export const TOOLS = { weather: ['city', 'sunny'], clock: ['zone', 'noon'] };
export const NO_SUCH = 'no-such-model';
export const LISBON = { name: 'Lisbon', size: 3 };

/** The error of that class, or with a status, that the promise ends with. */
export async function refused(kind, promise) {
  let answer;
  try {
    answer = await promise;
  } catch (error) {
    assert(error instanceof kind, `${error?.constructor?.name}, not ${kind.name}: ${error}`);
    return error;
  }
  throw new Error(`answered ${JSON.stringify(answer)} instead of ${kind.name}`);
}

/** Run the checks against what the arguments name: URL, key, model, and --no-embeddings where there are none. */
export async function main(checks) {
  const [url, key, model, ...more] = process.argv.slice(2);
  const gateway = { url, baseURL: `${url}/v1`, key, model, embeds: !more.includes('--no-embeddings') };
  for (const [check, ask] of Object.entries(checks)) {
    let outcome;
    try {
      outcome = { check, ok: true, usages: await ask(gateway) };
    } catch (error) {
      const place = (error.stack ?? '').split('\n').find((line) => line.includes('.mjs:') && !line.includes('checks.mjs'));
      outcome = { check, ok: false, usages: [], error: `${place?.trim()} -> ${error}`.slice(0, 2000) };
      process.exitCode = 1;
    }
    console.log(JSON.stringify(outcome).replace('{"check":', '{"check": '));
  }
}
