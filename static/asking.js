// One call of the playground: sends a body, reads the stream of its answer, and says in words what went wrong.
(() => {
  "use strict";

  // The events of a stream, as soon as each is whole: {event, data}.
  async function* eventsOf(stream) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split(/\r?\n\r?\n/);
      rest = parts.pop();
      for (const part of parts) {
        const found = { event: "", data: "" };
        for (const line of part.split(/\r?\n/)) {
          if (line.startsWith("event:")) found.event = line.slice(6).trim();
          else if (line.startsWith("data:")) found.data += line.slice(5).trimStart();
        }
        if (found.data) yield found;
      }
    }
  }

  function addCalls(calls, deltas) {
    for (const delta of deltas) {
      const place = delta.index ?? calls.length;
      const call = (calls[place] ??= { id: "", name: "", arguments: "", result: "" });
      if (delta.id) call.id = delta.id;
      if (delta.function?.name) call.name += delta.function.name;
      if (delta.function?.arguments) call.arguments += delta.function.arguments;
    }
  }

  function take(answer, chunk) {
    if (chunk.error) {
      answer.error = chunk.error.message || JSON.stringify(chunk.error);
      return;
    }
    const choice = chunk.choices?.[0];
    const said = choice?.delta || choice?.message;
    if (choice?.finish_reason) answer.finish = choice.finish_reason;
    if (!said) return;
    if (said.content) answer.text += said.content;
    if (said.refusal) answer.text += said.refusal;
    if (said.reasoning_content) answer.reasoning += said.reasoning_content;
    if (said.tool_calls) addCalls(answer.calls, said.tool_calls);
  }

  async function problemOf(response, words) {
    if (response.type === "opaqueredirect") return words.signed_out;
    const text = await response.text();
    try {
      const { error } = JSON.parse(text);
      return error.message;
    } catch { /* a page */ }
    const page = new DOMParser().parseFromString(text, "text/html"); // parsed, not shown: only its words are taken
    return page.querySelector(".error-text")?.textContent.trim() || `${words.failed} (${response.status})`;
  }

  let renewed = ""; // the token of a session that began after the page was loaded

  // Sends JSON. Where the session has changed, the token is taken from the page as it is now, and it is sent once more.
  async function send(url, token, body, signal) {
    const again = async () => fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json", "x-csrftoken": renewed || token },
      body,
      signal,
      redirect: "manual",
      credentials: "same-origin",
    });
    const response = await again();
    const isPage = (response.headers.get("content-type") || "").startsWith("text/html");
    if (response.status !== 400 || !isPage) return response;
    const page = await fetch(location.pathname, { redirect: "manual", signal });
    if (!page.ok) return page;
    const found = new DOMParser().parseFromString(await page.text(), "text/html").querySelector('meta[name="csrf-token"]');
    renewed = found?.content || "";
    return renewed ? again() : response;
  }

  // Fills the answer as it comes; never throws. `changed` is called after every piece.
  async function ask({ url, token, body, answer, words, signal, changed }) {
    try {
      const response = await send(url, token, body, signal);
      answer.request_id = response.headers.get("x-request-id") || "";
      answer.is_booked = response.ok || response.headers.has("x-gateway-attempts"); // else no call was made
      if (!response.ok) {
        answer.error = await problemOf(response, words);
        answer.is_signed_out = response.type === "opaqueredirect";
        return;
      }
      if (!(response.headers.get("content-type") || "").startsWith("text/event-stream")) {
        take(answer, await response.json());
        return;
      }
      let isWhole = false;
      for await (const { event, data } of eventsOf(response.body)) {
        if (event === "figures") {
          answer.figures = JSON.parse(data);
          isWhole = true;
        } else if (data !== "[DONE]") take(answer, JSON.parse(data));
        changed();
      }
      if (!isWhole && !answer.error) answer.error = words.cut;
    } catch (error) {
      if (signal.aborted) answer.is_stopped = true;
      else answer.error = `${words.unreachable} (${error.message})`;
    } finally {
      answer.is_open = false;
    }
  }

  async function post(url, token, body, words) {
    try {
      const response = await send(url, token, JSON.stringify(body));
      return response.ok ? "" : await problemOf(response, words);
    } catch (error) {
      return `${words.unreachable} (${error.message})`;
    }
  }

  // What was booked for a call that was stopped; null as long as it is not there.
  async function figuresOf(url, requestId) {
    for (const pause of [400, 800, 1600, 3200]) {
      await new Promise((resolve) => { setTimeout(resolve, pause); });
      try {
        const response = await fetch(`${url}?call=${encodeURIComponent(requestId)}`, { redirect: "manual" });
        if (response.ok) return await response.json();
      } catch { /* later */ }
    }
    return null;
  }

  window.tollhouseAsking = { ask, post, figuresOf };
})();
