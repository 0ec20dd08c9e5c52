// The lists of calls and of refused calls: one opens beside the list, and new calls come in by themselves.
// Without this file a call opens as a page of its own, and a link brings the newer ones.
(() => {
  "use strict";

  const POLL_MS = 2000;
  const SLOWEST_MS = 30000; // between two tries while the server does not answer
  const SAY_MS = 6000; // a screen reader hears of new calls no more often than that
  const MOST_ROWS = 200; // that the list has at once; older ones are on the next pages

  class SignedOut extends Error {}

  async function load(url) {
    const answer = await fetch(url, { credentials: "same-origin", redirect: "manual" });
    if (answer.type === "opaqueredirect") throw new SignedOut(); // it leads to the page to sign in
    if (!answer.ok) throw new Error(String(answer.status));
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  }

  // One call beside the list. Whatever goes wrong, its page is opened instead.
  function prepareDrawer(drawer) {
    const title = drawer.querySelector("h2");
    const body = drawer.querySelector("[data-drawer-body]");
    const page = drawer.querySelector("[data-drawer-page]");
    let shown = null; // the link whose call is open
    let turn = 0; // an answer that comes too late is left aside
    let isLeaving = false; // the drawer has closed, and the browser is yet to step back
    if (history.state && history.state.drawer) history.replaceState(null, ""); // from before a reload

    function wait() {
      const blocks = [0, 1, 2].map(() => {
        const block = document.createElement("div");
        block.className = "drawer-wait";
        return block;
      });
      title.textContent = title.dataset.loading;
      body.setAttribute("aria-busy", "true");
      body.replaceChildren(...blocks);
    }

    // An entry of the browser's history, so that Back closes the drawer instead of leaving the list.
    function keepPlace() {
      if (!(history.state && history.state.drawer)) history.pushState({ drawer: true }, "");
    }

    async function open(link) {
      const mine = ++turn;
      if (shown) shown.classList.remove("is-open");
      shown = link;
      link.classList.add("is-open");
      page.href = link.href;
      keepPlace();
      wait();
      if (!drawer.open) drawer.showModal();
      let found = null;
      try {
        found = await load(link.href);
      } catch { /* handled below */ }
      if (mine !== turn || !drawer.open) return;
      const part = found && found.querySelector("[data-drawer-part]");
      if (!part) {
        location.assign(link.href);
        return;
      }
      const actions = found.querySelector(".page-actions");
      const parts = actions && actions.childElementCount ? [actions, part] : [part];
      title.textContent = found.querySelector("h1").textContent;
      body.replaceChildren(...parts.map((one) => document.importNode(one, true)));
      body.removeAttribute("aria-busy");
      body.scrollTop = 0;
    }

    function step(by) {
      const links = [...document.querySelectorAll("[data-drawer]")];
      const next = links[links.indexOf(shown) + by];
      if (next) open(next);
    }

    document.addEventListener("click", (event) => {
      const link = event.target.closest("[data-drawer]");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      open(link);
    });
    drawer.addEventListener("click", (event) => {
      const by = event.target.closest("[data-drawer-step]");
      if (by) step(Number(by.dataset.drawerStep));
      else if (event.target === drawer || event.target.closest("[data-drawer-close]")) drawer.close();
    });
    drawer.addEventListener("keydown", (event) => {
      const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      const isElsewhere = event.target.closest("input, select, textarea, [role=region], pre");
      if (!by || isElsewhere || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      step(by);
    });
    window.addEventListener("popstate", () => {
      if (isLeaving && drawer.open) keepPlace(); // opened again meanwhile
      else if (drawer.open) drawer.close();
      isLeaving = false;
    });
    drawer.addEventListener("close", () => {
      turn += 1;
      if (history.state && history.state.drawer) {
        isLeaving = true;
        history.back();
      }
      const last = shown;
      shown = null;
      body.replaceChildren();
      if (!last) return;
      last.classList.remove("is-open");
      last.focus(); // the call that was shown last, which need not be the one that was opened
    });
  }

  // New calls. The list is asked for what came after its newest row, while somebody looks at it.
  function prepareLive(button) {
    const said = document.querySelector("[data-live-said]");
    const note = document.querySelector("[data-live-note]");
    let newest = button.dataset.newest;
    let timer = 0;
    let pause = POLL_MS;
    let unsaid = 0;
    let saidAt = 0;

    const isOn = () => button.getAttribute("aria-pressed") === "true";

    function tell(...parts) {
      note.replaceChildren(...parts);
      note.hidden = !note.textContent;
    }

    // In another tab: the list goes on by itself once somebody has signed in.
    function tellSignedOut() {
      const { text, label, href } = document.querySelector("[data-signed-out]").dataset;
      const link = document.createElement("a");
      Object.assign(link, { href, target: "_blank", rel: "noopener", textContent: label });
      tell(text, " ", link);
    }

    function announce(count) {
      unsaid += count;
      if (!unsaid || Date.now() - saidAt < SAY_MS) return;
      const { one, many } = button.dataset;
      said.textContent = unsaid === 1 ? one : many.replace("{count}", String(unsaid));
      unsaid = 0;
      saidAt = Date.now();
    }

    function put(rows) {
      const list = document.querySelector(".table tbody");
      const fresh = rows.filter((row) => {
        const id = row.querySelector("[data-call]").dataset.call;
        return !document.querySelector(`main [data-call="${CSS.escape(id)}"]`);
      });
      if (fresh.length && !list) {
        location.reload(); // the first call of an empty list
        return 0;
      }
      for (const row of fresh) row.classList.add("is-new");
      if (fresh.length) list.prepend(...fresh);
      if (list) while (list.childElementCount > MOST_ROWS) list.lastElementChild.remove();
      return fresh.length;
    }

    async function look() {
      const url = new URL(button.dataset.live, location.href);
      if (newest) url.searchParams.set("after", newest);
      try {
        const table = (await load(url)).querySelector("[data-newer]");
        if (!isOn()) return;
        const rows = [...table.querySelectorAll("tbody tr")].map((row) => document.importNode(row, true));
        newest = table.dataset.newest;
        announce(put(rows));
        tell("more" in table.dataset ? button.dataset.behind : "");
        pause = POLL_MS;
        delete button.dataset.pausedNow;
      } catch (error) {
        if (!isOn()) return;
        pause = Math.min(pause * 2, SLOWEST_MS);
        button.dataset.pausedNow = "";
        if (error instanceof SignedOut) tellSignedOut();
        else tell(button.dataset.paused);
      }
      plan();
    }

    function plan() {
      clearTimeout(timer);
      if (isOn() && !document.hidden) timer = setTimeout(look, pause);
    }

    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(!isOn()));
      pause = POLL_MS;
      if (isOn()) look();
      else {
        clearTimeout(timer);
        delete button.dataset.pausedNow;
        tell("");
      }
    });
    document.addEventListener("visibilitychange", () => { // a page that nobody sees asks nothing
      pause = POLL_MS;
      plan();
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    const drawer = document.getElementById("drawer");
    if (drawer && drawer.showModal) prepareDrawer(drawer);
    document.querySelectorAll("[data-live]").forEach(prepareLive);
  });
})();
