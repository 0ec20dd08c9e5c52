// Pages that set something up: the summary of a new key, its first call, and the first steps of a gateway.
// Everything here can be done without it, by reloading a page or from a terminal.
(() => {
  "use strict";

  const POLL_MS = 2000;
  const POLL_FOR_MS = 30 * 60 * 1000;

  // What a field says in words: the label of what is chosen, or what was typed.
  function said(form, name) {
    const found = form.elements[name];
    if (!found) return "";
    const fields = found instanceof RadioNodeList ? [...found] : [found];
    if (fields[0].type === "checkbox") {
      return fields.filter((field) => field.checked).map((field) => field.value).join(", ");
    }
    if (fields[0].tagName === "SELECT") return fields[0].selectedOptions[0]?.textContent.trim() || "";
    return fields[0].value.trim();
  }

  function summarise(form, list) {
    const isAll = form.elements.scope?.value === "all";
    for (const line of list.querySelectorAll("[data-of]")) {
      const names = line.dataset.of.split(" ");
      const words = names.map((name) => (name === "allowed_models" && isAll ? "" : said(form, name)));
      const isThere = "any" in line.dataset ? words.some(Boolean) : Boolean(words[0]);
      line.textContent = isThere ? words.filter(Boolean).join(" ") : line.dataset.none;
    }
  }

  function prepareSummary(list) {
    const form = list.closest("form");
    const show = () => summarise(form, list);
    form.addEventListener("input", show);
    form.addEventListener("change", show);
    show();
  }

  // The first call goes the way of every app's: with the key, and without the session of this page.
  async function send(part) {
    const place = part.querySelector("[data-answer]");
    const began = performance.now();
    place.textContent = part.dataset.asking;
    try {
      const answer = await fetch(part.dataset.try, {
        method: "POST",
        credentials: "omit",
        headers: {
          "Authorization": `Bearer ${document.getElementById(part.dataset.secret).textContent.trim()}`,
          "Content-Type": "application/json",
        },
        body: JSON.stringify({
          model: part.dataset.model, max_tokens: 200, messages: [{ role: "user", content: "Hello!" }],
        }),
      });
      const body = await answer.json();
      const took = Math.round(performance.now() - began);
      place.classList.toggle("is-bad", !answer.ok);
      place.textContent = answer.ok
        ? `${body.choices[0].message.content ?? ""} (${took} ${part.dataset.took})`
        : `${answer.status}: ${body.error?.message ?? part.dataset.failed}`;
    } catch {
      place.classList.add("is-bad");
      place.textContent = part.dataset.failed;
    }
  }

  function prepareTry(part) {
    const button = part.querySelector("[data-send]");
    button.addEventListener("click", async () => {
      button.disabled = true;
      await send(part);
      button.disabled = false;
      button.focus();
    });
  }

  // The steps are drawn again when one of them is done, by whoever does it.
  async function look(part) {
    const answer = await fetch(part.dataset.steps, { credentials: "same-origin", redirect: "error" });
    if (!answer.ok || String((await answer.json()).done) === part.dataset.done) return part;
    const page = await fetch(location.href, { credentials: "same-origin", redirect: "error" });
    const fresh = new DOMParser().parseFromString(await page.text(), "text/html").getElementById("steps");
    if (!fresh) {
      location.reload();
      return null;
    }
    const drawn = document.importNode(fresh, true);
    part.replaceWith(drawn);
    return "complete" in drawn.dataset ? null : drawn;
  }

  function watchSteps(first) {
    let part = "complete" in first.dataset ? null : first;
    const end = Date.now() + POLL_FOR_MS;
    const again = async () => {
      if (!part || Date.now() > end) return;
      if (!document.hidden) {
        try {
          part = await look(part);
        } catch { /* the next time, perhaps */ }
      }
      setTimeout(again, POLL_MS);
    };
    setTimeout(again, POLL_MS);
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-summary]").forEach(prepareSummary);
    document.querySelectorAll("[data-try]").forEach(prepareTry);
    document.querySelectorAll("[data-steps]").forEach(watchSteps);
  });
})();
