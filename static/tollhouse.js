// The panel works without this file; with it, some things take one step less.
// It adds nothing to the page from anywhere else and evaluates nothing.
(() => {
  "use strict";

  const root = document.documentElement;
  const texts = () => document.body.dataset;
  const TOAST_MS = 8000;
  const TOAST_MS_A_LETTER = 90;
  const SLOW_MS = 150; // until a dialog that is late is drawn as one that is coming
  root.classList.add("js");

  // Colours change at once, and the browser remembers them like the form without JavaScript does.
  function chooseTheme(event) {
    const choice = event.submitter;
    if (!choice || choice.name !== "theme") return;
    event.preventDefault();
    root.dataset.theme = choice.value;
    const secure = location.protocol === "https:" ? ";secure" : "";
    document.cookie = `tollhouse_theme=${choice.value};path=/;max-age=31536000;samesite=lax${secure}`;
    for (const other of choice.form.elements) {
      if (other.name === "theme") other.setAttribute("aria-pressed", String(other === choice));
    }
  }

  async function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent.trim());
    } catch {
      getSelection().selectAllChildren(source); // no permission, or no https: the text is marked instead
      return;
    }
    const label = button.querySelector("[data-label]") || button;
    const before = label.textContent;
    label.textContent = texts().copied;
    setTimeout(() => { label.textContent = before; }, 2000);
  }

  // A page that asks for confirmation opens as a dialog. Whatever goes wrong, the page itself is one click away.
  async function ask(link) {
    const dialog = document.getElementById("ask");
    let part = null;
    const slow = setTimeout(() => showWaiting(dialog), SLOW_MS);
    try {
      const answer = await fetch(link.href, { credentials: "same-origin", redirect: "error" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      part = answer.ok ? page.querySelector("[data-ask]") : null;
    } catch { /* handled below */ }
    clearTimeout(slow);
    const isWanted = dialog.open || !dialog.hasAttribute("aria-busy");
    for (const name of ["aria-busy", "aria-label"]) dialog.removeAttribute(name);
    if (!isWanted) return; // closed while it was coming
    if (!part || !dialog.showModal) {
      location.assign(link.href);
      return;
    }
    dialog.replaceChildren(document.importNode(part, true));
    const heading = dialog.querySelector("h1, h2");
    if (heading) {
      heading.id = "ask-title";
      dialog.setAttribute("aria-labelledby", "ask-title");
    }
    if (!dialog.open) dialog.showModal();
    dialog.querySelector("[autofocus]")?.focus();
  }

  function showWaiting(dialog) {
    const lines = ["", "", ""].map(() => Object.assign(document.createElement("p"), { className: "skeleton" }));
    dialog.replaceChildren(...lines);
    dialog.setAttribute("aria-busy", "true");
    dialog.setAttribute("aria-label", texts().loading);
    dialog.showModal?.();
  }

  // Rows of a form that can be repeated: the empty last one is the pattern.
  function prepareRows(list) {
    const rows = list.querySelectorAll("[data-row]");
    const last = rows[rows.length - 1];
    const pattern = last.cloneNode(true);
    for (const field of pattern.querySelectorAll("input, textarea")) {
      field.value = field.dataset.blank || "";
      field.removeAttribute("value");
    }
    for (const note of pattern.querySelectorAll(".invalid-feedback")) note.remove();
    for (const field of pattern.querySelectorAll(".is-invalid")) field.classList.remove("is-invalid");
    if (rows.length > 1 && list.dataset.spare === "yes") last.remove();
    let next = rows.length;
    list.querySelector("[data-add]").addEventListener("click", () => {
      const row = pattern.cloneNode(true);
      for (const part of row.querySelectorAll("[name], [id], [for]")) {
        for (const name of ["name", "id", "for"]) {
          const value = part.getAttribute(name);
          if (value) part.setAttribute(name, value.replace(/-\d+-/, `-${next}-`));
        }
      }
      for (const field of row.querySelectorAll("input[data-blank]")) field.value = field.dataset.blank;
      next += 1;
      list.querySelector("[data-rows]").append(row);
      row.querySelector("input, textarea").focus();
    });
  }

  // A long list of boxes to tick gets a field to narrow it.
  function prepareNarrow(field) {
    const list = document.getElementById(field.dataset.narrow);
    field.hidden = false;
    field.addEventListener("input", () => {
      const wanted = field.value.trim().toLowerCase();
      for (const item of list.children) item.hidden = !item.textContent.toLowerCase().includes(wanted);
    });
  }

  // A form shows what belongs to the kind that is chosen; without this, every part is there under its kind's name.
  function prepareKinds(select) {
    const address = document.getElementById(select.dataset.kinds);
    const show = () => {
      for (const part of select.form.querySelectorAll("[data-kind]")) part.hidden = part.dataset.kind !== select.value;
      const own = select.form.querySelector(`[data-kind="${select.value}"][data-url]`);
      address.placeholder = own ? own.dataset.url : "";
    };
    select.addEventListener("change", show);
    show();
  }

  // Choosing a vendor fills in its address, unless somebody typed another one.
  function prepareFills(select) {
    const address = document.getElementById(select.dataset.fills);
    const known = new Set([...select.options].map((option) => option.dataset.url));
    select.addEventListener("change", () => {
      if (address.value && !known.has(address.value)) return;
      address.value = select.selectedOptions[0].dataset.url || "";
    });
  }

  // The code of an invitation comes behind the # of its link; it need not stay in the history.
  function takeFragment(field) {
    if (!location.hash) return;
    field.value ||= decodeURIComponent(location.hash.slice(1));
    history.replaceState(null, "", location.pathname);
  }

  // Leaving a form with changes asks first.
  function prepareGuard(form) {
    let isDirty = false;
    form.addEventListener("input", () => { isDirty = true; });
    form.addEventListener("submit", () => { isDirty = false; });
    addEventListener("beforeunload", (event) => { if (isDirty) event.preventDefault(); });
  }

  function onClick(event) {
    const target = event.target.closest("[data-copy], [data-dialog], [data-close], [data-remove]");
    if (!target) return;
    if (target.dataset.copy) copy(target);
    else if ("remove" in target.dataset) target.closest("[data-row], [data-note]").remove();
    else if ("close" in target.dataset) {
      const dialog = target.closest("dialog");
      if (!dialog) return; // on the page itself it is a link back
      event.preventDefault();
      dialog.close();
    } else if (!event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      ask(target);
    }
  }

  function onKey(event) {
    const isTyping = event.target.closest("input, select, textarea, [contenteditable]");
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    const fields = document.querySelectorAll("[data-find] [name=q], .find-link, [data-search]");
    const search = [...fields].find((field) => field.checkVisibility());
    if (!search) return;
    event.preventDefault();
    search.focus();
  }

  // What went well goes after a while, unless somebody is reading it; what went wrong stays until it is dismissed.
  function prepareToast(note) {
    const text = note.querySelector("p");
    const words = text.textContent;
    text.textContent = ""; // a screen reader announces what changes, not what was there with the page
    setTimeout(() => { text.textContent = words; }, 100);
    if (!("passing" in note.dataset)) return;
    let timer = 0;
    const start = () => { timer = setTimeout(() => note.remove(), Math.max(TOAST_MS, words.length * TOAST_MS_A_LETTER)); };
    const stop = () => clearTimeout(timer);
    for (const name of ["pointerenter", "focusin"]) note.addEventListener(name, stop);
    for (const name of ["pointerleave", "focusout"]) note.addEventListener(name, start);
    document.addEventListener("visibilitychange", () => { stop(); if (!document.hidden && note.isConnected) start(); });
    if (!document.hidden) start();
  }

  // A moment on hover: in the reader's own time zone as well, whenever it came into the page.
  function tellLocally(event) {
    const time = event.target.closest?.("time[datetime]");
    if (!time || "local" in time.dataset) return;
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) return;
    const local = moment.toLocaleString(root.lang, { dateStyle: "medium", timeStyle: "long" });
    time.dataset.local = "";
    time.title = time.title ? `${local}\n${time.title}` : local;
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.addEventListener("click", onClick);
    document.addEventListener("keydown", onKey);
    document.addEventListener("submit", chooseTheme);
    document.addEventListener("change", (event) => {
      if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
    });
    document.addEventListener("pointerover", tellLocally);
    document.querySelectorAll("[data-note][role]").forEach(prepareToast);
    document.querySelectorAll("[data-repeat]").forEach(prepareRows);
    document.querySelectorAll("[data-narrow]").forEach(prepareNarrow);
    document.querySelectorAll("[data-kinds]").forEach(prepareKinds);
    document.querySelectorAll("[data-fills]").forEach(prepareFills);
    document.querySelectorAll("form[data-guard]").forEach(prepareGuard);
    document.querySelectorAll("[data-fragment]").forEach(takeFragment);
  });
})();
