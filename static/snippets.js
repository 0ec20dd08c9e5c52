// A request of the playground as programs would send it, to this gateway, with the key in a variable.
(() => {
  "use strict";

  const INDENT = "    ";

  // A value as Python writes it; JSON's strings are Python's as well.
  function python(value, indent) {
    if (value === null || value === undefined) return "None";
    if (value === true) return "True";
    if (value === false) return "False";
    if (typeof value !== "object") return JSON.stringify(value);
    const inner = indent + INDENT;
    const isList = Array.isArray(value);
    const parts = isList
      ? value.map((one) => inner + python(one, inner))
      : Object.entries(value).map(([name, one]) => `${inner}${JSON.stringify(name)}: ${python(one, inner)}`);
    const [open, close] = isList ? "[]" : "{}";
    return parts.length ? `${open}\n${parts.join(",\n")},\n${indent}${close}` : open + close;
  }

  const writers = {
    curl: (base, body) =>
      `curl -N ${base}/v1/chat/completions \\\n` +
      '  -H "Authorization: Bearer $TOLLHOUSE_API_KEY" \\\n' +
      '  -H "Content-Type: application/json" \\\n' +
      `  --data-binary @- <<'JSON'\n${JSON.stringify(body, null, 2)}\nJSON\n`,

    python(base, all) {
      const { prompt_id, variables, ...known } = all; // the SDK takes members of its own alone
      const body = prompt_id ? { ...known, extra_body: { prompt_id, variables } } : known;
      const reading = body.stream
        ? "for chunk in answer:\n    if chunk.choices:\n        print(chunk.choices[0].delta.content or \"\", end=\"\", flush=True)\n"
        : "print(answer.choices[0].message.content)\n";
      return (
        "import os\n\nfrom openai import OpenAI\n\n" +
        `client = OpenAI(base_url="${base}/v1", api_key=os.environ["TOLLHOUSE_API_KEY"])\n` +
        `body = ${python(body, "")}\n` +
        `answer = client.chat.completions.create(**body)\n${reading}`
      );
    },

    node(base, body) {
      const reading = body.stream
        ? 'for await (const chunk of answer) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");\n'
        : "console.log(answer.choices[0].message.content);\n";
      return (
        'import OpenAI from "openai";\n\n' +
        `const client = new OpenAI({ baseURL: "${base}/v1", apiKey: process.env.TOLLHOUSE_API_KEY });\n` +
        `const answer = await client.chat.completions.create(${JSON.stringify(body, null, 2)});\n${reading}`
      );
    },
  };

  window.tollhouseSnippets = { write: (name, base, body) => writers[name](base, body) };
})();
