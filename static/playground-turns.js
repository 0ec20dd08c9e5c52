// How the playground shows the turns of a conversation: what somebody said, what models answered, and its figures.
(() => {
  "use strict";

  const NANO = 1e9;

  // `page`: what the playground knows and does; see where it calls this.
  window.tollhouseTurns = (page) => {
    const { setup, words } = page;

    function make(name, className, ...inside) {
      const made = document.createElement(name);
      if (className) made.className = className;
      made.append(...inside.filter((one) => one !== null && one !== ""));
      return made;
    }

    function button(label, act, className = "btn btn-quiet btn-sm") {
      const made = make("button", className, label);
      made.type = "button";
      made.addEventListener("click", act);
      return made;
    }

    const say = (text, values = {}) => text.replace(/\{(\w+)\}/g, (_all, name) => values[name] ?? "");
    const number = (value, options) => new Intl.NumberFormat(setup.language, options).format(value);
    const seconds = (ms) => `${number(ms / 1000, { maximumFractionDigits: 2, minimumFractionDigits: 2 })} s`;

    function money(nano) {
      const digits = nano >= NANO ? 2 : nano >= 1e6 ? 4 : nano >= 1e3 ? 6 : 9;
      return `$${number(nano / NANO, { minimumFractionDigits: 2, maximumFractionDigits: digits })}`;
    }

    function editor(turn, text, store) {
      const area = make("textarea", "form-control play-edit");
      area.value = text;
      area.setAttribute("aria-label", words.edit);
      const done = (isSent) => {
        store(area.value);
        page.redraw(turn);
        if (isSent) page.resend(turn);
      };
      const buttons = make("div", "play-tools", button(words.save, () => done(false), "btn btn-plain btn-sm"));
      if (turn.role !== "assistant") buttons.append(button(words.save_and_send, () => done(true), "btn btn-primary btn-sm"));
      buttons.append(button(words.cancel, () => page.redraw(turn)));
      page.viewOf(turn).root.replaceChildren(area, buttons);
      area.focus();
    }

    function tools(turn, text, store) {
      const row = make("div", "play-tools");
      if (store) row.append(button(words.edit, () => { if (!page.isBusy()) editor(turn, text(), store); }));
      row.append(button(turn.role === "assistant" ? words.again : words.resend, () => page.resend(turn)));
      row.append(button(words.remove, () => page.remove(turn)));
      return row;
    }

    function messageView(turn) {
      const text = make("div", "play-text", turn.raw ? JSON.stringify(turn.raw, null, 2) : turn.text);
      const pictures = (turn.images || []).map((url) => {
        const picture = make("img", "play-picture");
        picture.src = url;
        picture.alt = words.picture;
        return picture;
      });
      const who = make("h3", "play-who", turn.raw ? String(turn.raw.role) : words.you);
      const change = tools(turn, () => turn.text, turn.raw ? null : (value) => { turn.text = value; });
      return { root: make("li", "play-turn play-user", who, make("div", "play-bubble", text, ...pictures), change) };
    }

    function answersView(turn) {
      const shown = turn.answers.map((found, side) => (found ? answerView(turn, found, side) : null));
      const present = shown.filter(Boolean);
      const side = turn.answers.findIndex(Boolean);
      const change = tools(turn, () => turn.answers[side].text, present.length === 1 ? (value) => { turn.answers[side].text = value; } : null);
      const grid = make("div", present.length > 1 ? "play-sides" : "", ...present.map((one) => one.root));
      return { root: make("li", "play-turn play-answer", grid, change), shown };
    }

    function answerView(turn, found, side) {
      const body = make("div", page.state().is_raw ? "play-text play-raw" : "md");
      const thought = make("details", "play-thought", make("summary", "", words.thought));
      const thoughtText = thought.appendChild(make("div", "play-text"));
      const calls = make("div", "play-calls");
      const foot = make("div", "play-figures");
      const head = make("h3", "play-who", found.model || words.assistant);
      const root = make("article", "play-side", head, thought, body, calls, foot);
      const growing = new window.tollhouseMarkdown.Growing(body);
      const text = () => {
        if (page.state().is_raw) body.textContent = found.text;
        else growing.update(found.text, !found.is_open);
        thought.hidden = !found.reasoning;
        thoughtText.textContent = found.reasoning;
      };
      const view = {
        root,
        grow() {
          text();
          if (found.calls.length) calls.replaceChildren(...found.calls.filter(Boolean).map((call) => callView(call, found)));
          page.follow();
        },
        finish() {
          text();
          root.classList.toggle("is-open", found.is_open);
          calls.replaceChildren(...found.calls.filter(Boolean).map((call) => callView(call, found)));
          if (found.calls.length && !found.is_open && turn === page.state().turns.at(-1)) {
            calls.append(button(words.send_results, () => page.run([side]), "btn btn-primary btn-sm"));
          }
          foot.replaceChildren(...figures(found));
          page.follow();
        },
      };
      view.finish();
      return view;
    }

    function pretty(text) {
      try {
        return JSON.stringify(JSON.parse(text), null, 2);
      } catch {
        return text;
      }
    }

    function callView(call, found) {
      const result = make("textarea", "form-control");
      result.rows = 2;
      result.value = call.result;
      result.disabled = found.is_open;
      result.addEventListener("input", () => { call.result = result.value; page.save(); });
      const label = make("label", "", make("span", "", words.result), result);
      const given = make("pre", "", pretty(call.arguments || "{}"));
      given.tabIndex = 0;
      return make("div", "play-call", make("h4", "", make("span", "badge badge-accent", words.tool), ` ${call.name}`), given, label);
    }

    function figures(found) {
      const parts = [];
      if (found.error) {
        const told = make("p", "play-error", found.error);
        told.setAttribute("role", "alert");
        if (found.is_signed_out) {
          const link = make("a", "", words.sign_in);
          link.href = setup.urls.sign_in;
          link.target = "_blank";
          link.rel = "noopener";
          told.append(" ", link);
        }
        parts.push(told);
      }
      if (found.is_open) return [...parts, make("p", "play-writing", words.writing)];
      if (found.is_stopped) parts.push(make("span", "badge badge-warn", words.stopped));
      if (found.finish === "length") parts.push(make("span", "badge badge-warn", words.cut_by_limit));
      const told = found.figures;
      if (told) {
        const writing = (told.duration_ms - (told.first_byte_ms ?? 0)) / 1000;
        const known = [
          told.input_tokens !== null && say(words.input, { count: number(told.input_tokens) }),
          told.output_tokens !== null && say(words.output, { count: number(told.output_tokens) }),
          money(told.cost_nanousd),
          told.first_byte_ms !== null && say(words.first, { time: seconds(told.first_byte_ms) }),
          told.output_tokens > 1 && writing > 0 && say(words.speed, { count: number(told.output_tokens / writing, { maximumFractionDigits: 1 }) }),
          say(words.total, { time: seconds(told.duration_ms) }),
        ];
        parts.push(...known.filter(Boolean).map((text) => make("span", "", text)));
        if (told.dropped.length) parts.push(make("p", "play-warning", say(words.dropped, { names: told.dropped.join(", ") })));
        for (const warning of told.warnings) parts.push(make("p", "play-warning", warning));
      }
      if (found.request_id && found.is_booked !== false && setup.may_explore) {
        const link = make("a", "", words.open_call);
        link.href = `${setup.urls.explorer}?call=${encodeURIComponent(found.request_id)}`;
        parts.push(link);
      }
      if (found.sent) parts.push(button(words.code, () => page.showCode(JSON.parse(found.sent)), "play-link"));
      return parts;
    }

    return { make, button, say, number, messageView, answersView };
  };
})();
