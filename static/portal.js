// A dialog: with this file answers are read as Markdown, and going on with it brings the answer word by word; without
// it answers are plain text, and the form does the same in one step.
(() => {
  "use strict";

  function article(role, name) {
    const whole = document.createElement("article");
    const head = document.createElement("p");
    const who = document.createElement("strong");
    const text = document.createElement("div");
    whole.className = `said said-${role}`;
    head.className = "said-head";
    text.className = "said-text";
    who.textContent = name;
    head.append(who);
    whole.append(head, text);
    document.getElementById("end").before(whole);
    return text;
  }

  function growing(place) {
    place.className = "md";
    return new window.tollhouseMarkdown.Growing(place);
  }

  // Events are `data: {…}` between empty lines; a piece may end anywhere.
  async function read(answer, tell) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      const events = rest.split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
        if (data.trim().startsWith("{")) tell(JSON.parse(data));
      }
    }
  }

  async function send(form) {
    const button = form.querySelector("button");
    const problem = form.querySelector("[data-problem]");
    const field = form.elements.content;
    const body = new URLSearchParams(new FormData(form));
    let failed = "", isDone = false, said = "", shown = null;
    const tell = (event) => {
      if (event.error) failed = event.error;
      if (event.done && !event.error) isDone = true;
      if (!event.content) return;
      if (!shown) {
        article("user", form.dataset.you).textContent = body.get("content");
        shown = growing(article("assistant", form.dataset.model));
      }
      said += event.content;
      shown.update(said, false);
    };
    button.disabled = true;
    problem.textContent = "";
    try {
      await read(await fetch(form.dataset.stream, { method: "POST", body, credentials: "same-origin" }), tell);
    } catch { /* said below */ }
    if (shown) shown.update(said, true);
    button.disabled = false;
    if (isDone) field.value = "";
    else problem.textContent = failed || form.dataset.failed;
    field.focus();
  }

  document.addEventListener("DOMContentLoaded", () => {
    const form = document.querySelector("form[data-stream]");
    if (!form) return;
    Object.assign(window.tollhouseMarkdown.texts, { copy: form.dataset.labelCopy, copied: form.dataset.labelCopied });
    for (const place of document.querySelectorAll(".said-assistant .said-text")) {
      const text = place.textContent;
      place.replaceChildren();
      growing(place).update(text, true);
    }
    if (!window.TextDecoderStream) return;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send(form);
    });
  });
})();
