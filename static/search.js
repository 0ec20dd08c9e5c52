// Suggestions under the search field of the top bar: a combobox whose list belongs to the server. Without this file the
// field is a form that leads to the page of results.
(() => {
  "use strict";

  const PAUSE_MS = 150; // after the last key, before anything is asked
  const SHORTEST = 2;
  const SLOW_MS = 200; // until a list that is late is drawn as one that is coming
  let serial = 0;

  function make(tag, attributes, text = "") {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  }

  class Finder {
    constructor(form) {
      serial += 1;
      this.form = form;
      this.input = form.elements.q;
      this.list = make("ul", { id: `found-${serial}`, class: "found", role: "listbox", "aria-label": this.input.getAttribute("aria-label") });
      this.list.hidden = true;
      this.status = make("p", { class: "visually-hidden", role: "status" });
      this.asked = null; // the request under way
      this.timer = 0;
      this.active = -1;
      form.append(this.list, this.status);
      for (const [name, value] of [["role", "combobox"], ["aria-expanded", "false"], ["aria-autocomplete", "list"], ["aria-controls", this.list.id]]) {
        this.input.setAttribute(name, value);
      }
      this.input.addEventListener("input", () => this.later());
      this.input.addEventListener("keydown", (event) => this.onKey(event));
      this.input.addEventListener("focus", () => { if (this.options().length && this.input.value.trim()) this.open(); });
      form.addEventListener("focusout", (event) => { if (!form.contains(event.relatedTarget)) this.close(); });
      this.list.addEventListener("mousedown", (event) => event.preventDefault()); // the field keeps the focus
      this.list.addEventListener("click", (event) => {
        const option = event.target.closest("[role=option]");
        if (option) this.follow(option);
      });
    }

    options() { return [...this.list.querySelectorAll("[role=option]")]; }

    later() {
      clearTimeout(this.timer);
      this.asked?.abort();
      this.list.replaceChildren();
      this.activate(-1);
      if (this.input.value.trim().length < SHORTEST) {
        this.close();
        this.status.textContent = "";
        return;
      }
      this.timer = setTimeout(() => this.ask(), PAUSE_MS);
    }

    async ask() {
      const asked = this.asked = new AbortController();
      const slow = setTimeout(() => this.wait(), SLOW_MS);
      try {
        const url = `${this.form.dataset.find}?q=${encodeURIComponent(this.input.value)}`;
        const answer = await fetch(url, { signal: asked.signal, credentials: "same-origin", redirect: "error" });
        if (!answer.ok) throw new Error(String(answer.status));
        const { found } = await answer.json();
        if (this.asked === asked) this.show(found);
      } catch {
        if (this.asked === asked) this.close(); // cancelled, signed out or away: the form still works
      } finally {
        clearTimeout(slow);
      }
    }

    wait() {
      const rows = [1, 2, 3].map(() => make("li", { class: "found-line skeleton", role: "presentation" }));
      this.list.replaceChildren(...rows);
      this.list.setAttribute("aria-busy", "true");
      this.open();
    }

    show(found) {
      this.list.removeAttribute("aria-busy");
      const rows = found.map((one, place) => this.row(one, place));
      if (rows.length) rows.push(this.row({ kind: "", title: this.form.dataset.all, hint: "", url: "" }, rows.length));
      else rows.push(make("li", { class: "found-none", role: "presentation" }, this.form.dataset.none));
      this.list.replaceChildren(...rows);
      this.activate(-1);
      this.status.textContent = found.length ? this.form.dataset.count.replace("{}", found.length) : this.form.dataset.none;
      if (this.form.contains(document.activeElement)) this.open();
    }

    row(one, place) {
      const row = make("li", { id: `${this.list.id}-${place}`, class: "found-line", role: "option", "aria-selected": "false", "data-url": one.url });
      const title = make("span", { class: "found-title" }, one.title);
      if (one.hint) title.append(" ", make("span", { class: "found-hint" }, one.hint));
      row.append(title, make("span", { class: "found-kind" }, one.kind));
      return row;
    }

    open() {
      this.list.hidden = false;
      this.input.setAttribute("aria-expanded", "true");
    }

    close() {
      this.list.hidden = true;
      this.input.setAttribute("aria-expanded", "false");
      this.activate(-1);
    }

    activate(place) {
      this.active = place;
      const options = this.options();
      options.forEach((option, number) => option.setAttribute("aria-selected", String(number === place)));
      if (options[place]) {
        this.input.setAttribute("aria-activedescendant", options[place].id);
        options[place].scrollIntoView({ block: "nearest" });
      } else this.input.removeAttribute("aria-activedescendant");
    }

    follow(option) {
      const { url } = option.dataset;
      if (url.startsWith("/") && !url.startsWith("//")) location.assign(url);
      else this.form.requestSubmit();
    }

    onKey(event) {
      const options = this.options(), isOpen = !this.list.hidden;
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        if (!options.length) return;
        event.preventDefault();
        if (!isOpen) this.open();
        const from = event.key === "ArrowDown" ? this.active + 1 : this.active < 0 ? options.length - 1 : this.active - 1;
        this.activate(from >= options.length ? -1 : from);
      } else if (event.key === "Enter" && isOpen && options[this.active]) {
        event.preventDefault();
        this.follow(options[this.active]);
      } else if (event.key === "Escape" && isOpen) {
        event.preventDefault(); // the next one empties the field, as browsers do
        this.close();
      }
    }
  }

  document.querySelectorAll("form[data-find]").forEach((form) => new Finder(form));
})();
