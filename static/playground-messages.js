// What the playground says and what calls carry: the turns of a conversation as messages, and messages as turns.
(() => {
  "use strict";

  const answer = (model) => ({
    model, text: "", reasoning: "", calls: [], error: "", figures: null, request_id: "", is_open: true, is_stopped: false,
  });

  function said(turn) {
    if (turn.raw) return [turn.raw];
    if (!turn.images.length) return [{ role: "user", content: turn.text }];
    const pictures = turn.images.map((url) => ({ type: "image_url", image_url: { url } }));
    return [{ role: "user", content: [...(turn.text ? [{ type: "text", text: turn.text }] : []), ...pictures] }];
  }

  function answered(turn, side) {
    const found = turn.answers[side] || (turn.only === undefined ? turn.answers[0] : null);
    if (!found || !(found.text || found.calls.length)) return [];
    if (!found.calls.length) return [{ role: "assistant", content: found.text }];
    const calls = found.calls.map(({ id, name, arguments: given }) => ({ id, type: "function", function: { name, arguments: given } }));
    const results = found.calls.map(({ id, result }) => ({ role: "tool", tool_call_id: id, content: result }));
    return [{ role: "assistant", content: found.text || null, tool_calls: calls }, ...results];
  }

  const isTools = (value) => Array.isArray(value) && value.every((one) => one?.type === "function" && one.function?.name);
  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

  const textOf = (content) => (typeof content === "string" ? content : (content || []).filter((one) => one.type === "text").map((one) => one.text).join("\n"));

  // The messages of a call from before, as turns.
  function turnsOf(messages) {
    const turns = [];
    for (const message of messages) {
      if (message.role === "user") {
        const pictures = Array.isArray(message.content) ? message.content.filter((one) => one.type === "image_url") : [];
        turns.push({ role: "user", text: textOf(message.content), images: pictures.map((one) => one.image_url.url ?? one.image_url) });
      } else if (message.role === "assistant") {
        const calls = (message.tool_calls || []).map((one) => ({ id: one.id, name: one.function?.name || "", arguments: one.function?.arguments || "", result: "" }));
        turns.push({ role: "assistant", answers: [Object.assign(answer(""), { text: textOf(message.content), calls, is_open: false }), null] });
      } else if (message.role === "tool") {
        const call = turns.flatMap((turn) => turn.answers?.[0]?.calls || []).find((one) => one.id === message.tool_call_id);
        if (call) call.result = textOf(message.content);
      } else turns.push({ role: "raw", raw: message, images: [], text: "" });
    }
    return turns;
  }

  window.tollhouseMessages = { answer, said, answered, isTools, isObject, textOf, turnsOf };
})();
