// The playground: a conversation that lives in this page (and in sessionStorage, so that it survives a reload).
(() => {
  "use strict";

  const KEY = "tollhouse.playground";
  const KINDS = ["image/png", "image/jpeg", "image/gif", "image/webp"];
  const MOST_IMAGE = 5 * 1024 * 1024;
  const NUMBERS = { temperature: Number, top_p: Number, max_tokens: Number, seed: Number };
  const EXAMPLE = [{
    type: "function",
    function: {
      name: "get_weather",
      description: "The weather in a city now.",
      parameters: {
        type: "object",
        properties: { city: { type: "string" }, unit: { type: "string", enum: ["celsius", "fahrenheit"] } },
        required: ["city"],
      },
    },
  }];

  const { answer, said, answered, isTools, isObject, textOf, turnsOf } = window.tollhouseMessages;

  let form, setup, words, token, state, turns;
  let make, button, say, number, messageView, answersView, prompts;
  const part = (id) => document.getElementById(id);
  const views = new Map(); // of turns
  let running = []; // AbortController of each call under way

  // State ------------------------------------------------------------------------------------------------------------

  const blank = () => ({ user: setup.user, models: ["", ""], agent: "", stored: "", values: {}, fields: {}, is_json: false, is_raw: false, turns: [] });

  function load() {
    try {
      const kept = JSON.parse(sessionStorage.getItem(KEY) || "null");
      if (kept && kept.user === setup.user && Array.isArray(kept.turns)) return kept;
    } catch { /* as if there were none */ }
    return blank();
  }

  let timer = 0;
  function save(isNow) {
    clearTimeout(timer);
    if (!isNow) {
      timer = setTimeout(save, 300, true);
      return;
    }
    const plain = (name, value) => (name === "sent" ? undefined : value);
    const bare = (name, value) => (name === "images" ? [] : plain(name, value));
    for (const way of [plain, bare]) {
      try {
        sessionStorage.setItem(KEY, JSON.stringify(state, way));
        return;
      } catch { /* too large with its pictures: without them, then */ }
    }
    note(words.not_kept, "bad");
  }

  const names = () => (state.models[1] ? state.models : state.models.slice(0, 1));

  // The body of a call ---------------------------------------------------------------------------------------------------

  function parsed(id, isRight) {
    const text = part(id).value.trim();
    if (!text) return undefined;
    try {
      const value = JSON.parse(text);
      if (isRight(value)) return value;
    } catch (error) {
      throw new Error(say(words[`bad_${id}`], { problem: error.message }));
    }
    throw new Error(say(words[`bad_${id}`], { problem: "" }));
  }

  // Only what was given is sent. Throws an Error with words for what cannot be sent.
  function bodyFor(side, asked) {
    const messages = asked.flatMap((turn) => (turn.role === "assistant" ? answered(turn, side) : said(turn)));
    const system = part("system").value;
    if (system.trim()) messages.unshift({ role: "system", content: system });
    const body = { model: state.models[side], ...prompts.members(), messages, stream: true };
    for (const [name, read] of Object.entries(NUMBERS)) {
      const field = part(name);
      if (!field.checkValidity()) throw new Error(say(words.bad_number, { name }));
      if (field.value.trim()) body[name] = read(field.value);
    }
    const stops = part("stop").value.split("\n").filter(Boolean);
    if (stops.length) body.stop = stops;
    if (part("is_json").checked) body.response_format = { type: "json_object" };
    const tools = parsed("tools", isTools);
    if (tools?.length) body.tools = tools;
    return { ...body, ...parsed("other", isObject) };
  }

  // Asking ---------------------------------------------------------------------------------------------------------------

  // How long a text may wait to be shown depends on how long showing it takes, so that long ones stay smooth.
  function painter(paint) {
    let isDue = false;
    let notBefore = 0;
    return () => {
      if (isDue) return;
      isDue = true;
      setTimeout(() => requestAnimationFrame(() => {
        isDue = false;
        const began = performance.now();
        paint();
        const took = performance.now() - began;
        notBefore = performance.now() + (took > 8 ? took * 4 : 0);
      }), Math.max(0, notBefore - performance.now()));
    };
  }

  async function askOne(turn, side) {
    const found = turn.answers[side];
    const control = new AbortController();
    running.push(control);
    const paint = painter(() => {
      if (found.is_open) viewOf(turn).shown[side].grow();
    });
    await window.tollhouseAsking.ask({
      url: setup.urls.chat, token, body: found.sent, answer: found, words, signal: control.signal,
      changed() { paint(); },
    });
    running = running.filter((one) => one !== control);
    viewOf(turn).shown[side].finish();
    const told = found.error || say(words.told, { model: found.model, text: found.text.slice(0, 500) });
    part("told").textContent = found.is_stopped ? words.stopped : told;
    if (found.is_stopped && found.request_id) {
      found.figures = await window.tollhouseAsking.figuresOf(setup.urls.figures, found.request_id);
      viewOf(turn).shown[side].finish();
    }
  }

  // What each side is to be sent of these turns. Throws an Error with words for what cannot be sent.
  function answersFor(sides, asked) {
    const answers = [null, null];
    for (const side of sides) {
      const body = bodyFor(side, asked);
      if (!body.model) throw new Error(words.no_models);
      const sent = JSON.stringify(body);
      const size = new Blob([sent]).size;
      if (size > setup.max_bytes) throw new Error(say(words.too_large, { size: megabytes(size), most: megabytes(setup.max_bytes) }));
      answers[side] = Object.assign(answer(body.model), { sent });
    }
    return answers;
  }

  // Asks with these turns, which become the conversation; whether they could be sent. If not, everything stays as it is.
  function run(sides, asked = state.turns) {
    if (running.length) return false;
    const turn = { role: "assistant", answers: [null, null] };
    if (sides.length === 1 && state.models[1]) [turn.only] = sides;
    try {
      turn.answers = answersFor(sides, asked);
    } catch (error) {
      note(error.message, "bad");
      for (const field of form.querySelectorAll("details .is-invalid")) field.closest("details").open = true;
      return false;
    }
    note("");
    for (const gone of state.turns) if (!asked.includes(gone)) views.delete(gone);
    views.delete(asked.at(-1)); // it waits for results no longer
    state.turns = [...asked, turn];
    draw();
    busy(true);
    follow(true);
    Promise.all(sides.map((side) => askOne(turn, side))).then(() => {
      busy(false);
      save(true);
    });
    return true;
  }

  const megabytes = (bytes) => `${number(bytes / 1048576, { maximumFractionDigits: 1 })} MB`;
  const allSides = () => names().map((_name, side) => side);

  // The sides that wait for results of their tools.
  function waiting() {
    const last = state.turns.at(-1);
    return last?.role === "assistant" ? allSides().filter((side) => last.answers[side]?.calls.length) : [];
  }

  function send() {
    if (running.length) return;
    const turn = composed("user");
    if (turn) {
      if (run(allSides(), [...state.turns, turn])) emptyComposer();
    } else if (state.turns.length && state.turns.at(-1).role !== "assistant") run(allSides());
    else if (waiting().length) run(waiting());
    else if (prompts.isChosen() && (!state.turns.length || prompts.isComplete())) run(allSides());
    else note(words.empty, "bad");
  }

  // What stands in the composer as a message; null = nothing does.
  function composed(role) {
    const text = part("prompt").value;
    const images = state.images || [];
    if (!text.trim() && !images.length) return null;
    if (role === "user") return { role, text, images };
    return { role, answers: [Object.assign(answer(""), { text, is_open: false }), null] };
  }

  function emptyComposer() {
    part("prompt").value = "";
    state.images = [];
    drawImages();
    remember();
  }

  // The message joins the conversation and nobody is asked.
  function add() {
    if (running.length) return;
    const turn = composed(part("role").value);
    note(turn ? "" : words.empty, "bad");
    if (!turn) return;
    state.turns.push(turn);
    emptyComposer();
    draw();
  }

  function stop() {
    for (const control of running) control.abort();
  }

  function busy(is) {
    form.classList.toggle("is-busy", is);
    part("send").hidden = is;
    part("stop-button").hidden = !is;
    turns.setAttribute("aria-busy", String(is));
    if (!is && document.activeElement === document.body) part("prompt").focus();
  }

  function resend(turn) {
    if (running.length) return;
    const at = state.turns.indexOf(turn) + (turn.role === "assistant" ? 0 : 1);
    run(allSides(), state.turns.slice(0, at));
  }

  // Showing --------------------------------------------------------------------------------------------------------------

  function note(text, tone = "quiet") {
    const place = part("note");
    place.textContent = text;
    place.hidden = !text;
    place.className = `play-note play-note-${tone}`;
  }

  function follow(isForced) {
    const far = turns.scrollHeight - turns.scrollTop - turns.clientHeight;
    if (isForced || far < 120) turns.scrollTop = turns.scrollHeight;
  }

  function viewOf(turn) {
    let found = views.get(turn);
    if (!found) {
      found = turn.role === "assistant" ? answersView(turn) : messageView(turn);
      views.set(turn, found);
    }
    return found;
  }

  function draw() {
    turns.replaceChildren(...state.turns.map((turn) => viewOf(turn).root));
    part("nothing").hidden = state.turns.length > 0;
    turns.hidden = !state.turns.length;
    for (const id of ["clear", "keep"]) part(id).disabled = !state.turns.length;
  }

  function redraw(turn) {
    views.delete(turn);
    draw();
    save();
  }

  function remove(turn) {
    if (running.length) return;
    state.turns.splice(state.turns.indexOf(turn), 1);
    views.delete(turn);
    draw();
    save();
    part("prompt").focus();
  }

  // Pictures -------------------------------------------------------------------------------------------------------------

  function problemOf(file) {
    const most = Math.min(MOST_IMAGE, setup.max_bytes / 2);
    if (!KINDS.includes(file.type)) return say(words.bad_picture, { name: file.name });
    return file.size > most ? say(words.large_picture, { name: file.name, size: megabytes(file.size), most: megabytes(most) }) : "";
  }

  function addImages(files) {
    const problems = [...files].map(problemOf);
    note(problems.filter(Boolean).join(" "), "bad"); // of these files: an older one is told no longer
    for (const [place, file] of [...files].entries()) {
      if (problems[place]) continue;
      const reader = new FileReader();
      reader.addEventListener("load", () => {
        state.images = [...(state.images || []), reader.result];
        drawImages();
        save();
      });
      reader.readAsDataURL(file);
    }
  }

  function drawImages() {
    part("images").replaceChildren(...(state.images || []).map((url, place) => {
      const picture = make("img");
      picture.src = url;
      picture.alt = words.picture;
      const gone = button("×", () => {
        state.images.splice(place, 1);
        drawImages();
        save();
      });
      gone.setAttribute("aria-label", words.remove_picture);
      return make("span", "play-image", picture, gone);
    }));
  }

  // Code -----------------------------------------------------------------------------------------------------------------

  let coded = null;
  function showCode(body) {
    coded = body;
    writeCode(document.querySelector("[data-code][aria-pressed=true]").dataset.code);
    part("code").showModal();
  }

  function writeCode(name) {
    for (const tab of document.querySelectorAll("[data-code]")) tab.setAttribute("aria-pressed", String(tab.dataset.code === name));
    part("code-text").textContent = window.tollhouseSnippets.write(name, setup.base_url, coded);
  }

  // The next call, with what stands in the composer.
  const nextBody = () => bodyFor(0, [...state.turns, composed("user")].filter(Boolean));

  // What the page begins with --------------------------------------------------------------------------------------------

  const FIELDS = ["system", "temperature", "top_p", "max_tokens", "seed", "stop", "tools", "other", "prompt"];

  function remember() {
    for (const id of FIELDS) state.fields[id] = part(id).value;
    state.is_json = part("is_json").checked;
    save();
  }

  function showState() {
    for (const id of FIELDS) part(id).value = state.fields[id] ?? "";
    part("is_json").checked = state.is_json;
    part("raw").checked = state.is_raw;
    const known = setup.models.map((one) => one.name);
    if (!known.includes(state.models[0])) state.models[0] = setup.best;
    if (!known.includes(state.models[1])) state.models[1] = "";
    part("model").value = state.models[0];
    part("agent").value = state.agent || "";
    showSecond();
    drawImages();
    draw();
    follow(true);
  }

  function showSecond() {
    const is = Boolean(state.models[1]);
    part("second-field").hidden = !is;
    part("compare").setAttribute("aria-pressed", String(is));
    if (is) part("second").value = state.models[1];
  }

  function showModel() {
    const found = setup.models.find((one) => one.name === state.models[0]);
    const facts = found ? [found.window && say(words.window, { count: number(found.window) }), found.most && say(words.most, { count: number(found.most) })] : [];
    part("model-facts").textContent = facts.filter(Boolean).join(" · ");
  }

  function setMembers(members) {
    const { stop: stops, tools: given, response_format: format, ...rest } = members;
    for (const name of Object.keys(NUMBERS)) {
      part(name).value = rest[name] ?? "";
      delete rest[name];
    }
    part("stop").value = [stops ?? []].flat().join("\n");
    part("tools").value = given ? JSON.stringify(given, null, 2) : "";
    part("is_json").checked = format?.type === "json_object";
    if (format && format.type !== "json_object") rest.response_format = format;
    part("other").value = Object.keys(rest).length ? JSON.stringify(rest, null, 2) : "";
    for (const box of form.querySelectorAll("details")) {
      if ([...box.querySelectorAll("input, textarea")].some((field) => field.value && field.type !== "checkbox")) box.open = true;
    }
  }

  function setAgent(id) {
    const agent = setup.agents.find((one) => one.id === id);
    state.agent = agent ? id : "";
    if (!agent) return;
    if (agent.system !== null) part("system").value = agent.system;
    if (agent.model && setup.models.some((one) => one.name === agent.model)) state.models[0] = agent.model;
    else if (agent.model) note(say(words.no_model, { model: agent.model }), "bad");
    part("model").value = state.models[0];
    const { tools: given, ...members } = agent.members;
    setMembers({ ...members, ...(given || part("tools").value ? { tools: given ?? JSON.parse(part("tools").value || "[]") } : {}) });
    remember();
  }

  async function setPrompt(reference) {
    const found = await prompts.choose(reference);
    if (found?.model && setup.models.some((one) => one.name === found.model)) {
      state.models[0] = part("model").value = found.model;
      showModel();
      save();
    }
  }

  // A request from before, as turns.
  function setBody(body) {
    const { messages = [], model: _model, stream: _stream, stream_options: _options, ...members } = body;
    const isOpened = ["system", "developer"].includes(messages[0]?.role);
    part("system").value = isOpened ? textOf(messages[0].content) : "";
    state.turns = turnsOf(isOpened ? messages.slice(1) : messages);
    setMembers(members);
    remember();
  }

  function begin() {
    const { replay, model, agent, prompt } = setup;
    if (replay) {
      state = blank();
      if (replay.body) setBody(replay.body);
    }
    if (model) {
      if (setup.models.some((one) => one.name === model)) state.models[0] = model;
      else note(say(words.no_model, { model }), "bad");
    }
    showState();
    if (agent) setAgent(agent);
    const stored = prompt || state.stored || "";
    if (stored) prompts.offer(stored);
    part("stored").value = stored;
    if (prompt) setPrompt(prompt);
    else if (stored) prompts.choose(stored); // the model stays the one that was chosen
    if (replay) note([replay.body ? say(words.loaded, { id: replay.request_id }) : "", replay.note].filter(Boolean).join(" "), replay.body ? "quiet" : "bad");
    if (replay || model || agent || prompt) history.replaceState(null, "", location.pathname); // a reload keeps what is here
    showModel();
    save();
  }

  // What people do -------------------------------------------------------------------------------------------------------

  function checkJson(id, isRight) {
    const field = part(id);
    let problem = "";
    try {
      parsed(id, isRight);
    } catch (error) {
      problem = error.message;
    }
    field.classList.toggle("is-invalid", Boolean(problem));
    field.setAttribute("aria-invalid", String(Boolean(problem)));
    part(`${id}-problem`).textContent = problem;
  }

  async function keepAsDialog() {
    const said_ = state.turns.flatMap((turn) => (turn.role === "assistant" ? answered(turn, 0) : said(turn)));
    const messages = said_
      .filter((one) => ["user", "assistant"].includes(one.role) && textOf(one.content))
      .map((one) => ({ role: one.role, content: textOf(one.content) }));
    const system = part("system").value;
    const title = (messages[0]?.content || "").trim().slice(0, 80);
    const body = { title, model_name: state.models[0], messages, ...(system.trim() ? { system_prompt: system } : {}) };
    const problem = await window.tollhouseAsking.post(setup.urls.dialog, token, body, words);
    note(problem || say(words.kept, { title }), problem ? "bad" : "good");
  }

  const actions = {
    "stop-button": stop,
    attach: () => part("file").click(),
    add,
    clear: () => part("clearing").showModal(),
    "clear-all": () => {
      part("clearing").close();
      stop();
      note("");
      state.turns = [];
      views.clear();
      draw();
      save();
      part("prompt").focus();
    },
    keep: keepAsDialog,
    compare() {
      const others = setup.models.filter((one) => one.name !== state.models[0]);
      state.models[1] = state.models[1] ? "" : (others[0] || setup.models[0] || { name: "" }).name;
      showSecond();
      save();
    },
    "show-code": () => {
      try {
        showCode(nextBody());
      } catch (error) {
        note(error.message, "bad");
      }
    },
    "code-close": () => part("code").close(),
    example() {
      part("tools").value = JSON.stringify(EXAMPLE, null, 2);
      checkJson("tools", isTools);
      remember();
    },
  };

  const changes = {
    model(field) { state.models[0] = field.value; showModel(); },
    second(field) { state.models[1] = field.value; },
    agent(field) { setAgent(field.value); },
    stored(field) { setPrompt(field.value); },
    raw(field) { state.is_raw = field.checked; views.clear(); draw(); },
    file(field) { addImages(field.files); field.value = ""; },
  };

  function onKey(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && form.contains(event.target)) {
      event.preventDefault();
      send();
    } else if (event.key === "Escape" && running.length && !document.querySelector("dialog[open]")) stop();
  }

  document.addEventListener("DOMContentLoaded", () => {
    form = part("playground");
    setup = JSON.parse(form.dataset.setup);
    words = JSON.parse(form.dataset.words);
    token = document.querySelector('meta[name="csrf-token"]').content;
    turns = part("turns");
    Object.assign(window.tollhouseMarkdown.texts, { copy: words.copy, copied: words.copied });
    state = load();
    const isBusy = () => running.length > 0;
    const page = { setup, words, state: () => state, isBusy, viewOf, redraw, remove, resend, run, save, follow, showCode };
    ({ make, button, say, number, messageView, answersView } = window.tollhouseTurns(page));
    prompts = window.tollhousePrompts({ ...page, make, say, number, note });
    for (const turn of state.turns) {
      for (const found of turn.answers || []) {
        if (found?.is_open) Object.assign(found, { is_open: false, is_stopped: true }); // the page went away meanwhile
      }
    }
    for (const [id, act] of Object.entries(actions)) part(id).addEventListener("click", act);
    for (const tab of document.querySelectorAll("[data-code]")) tab.addEventListener("click", () => writeCode(tab.dataset.code));
    form.addEventListener("submit", (event) => { event.preventDefault(); send(); });
    form.addEventListener("input", (event) => {
      if (event.target.id === "tools") checkJson("tools", isTools);
      if (event.target.id === "other") checkJson("other", isObject);
      if (FIELDS.includes(event.target.id)) remember();
    });
    form.addEventListener("change", (event) => {
      changes[event.target.id]?.(event.target);
      if (event.target.id !== "file") remember();
    });
    part("prompt").addEventListener("paste", (event) => {
      const files = [...event.clipboardData.files];
      if (!files.length) return;
      event.preventDefault();
      addImages(files);
    });
    document.addEventListener("keydown", onKey);
    addEventListener("pagehide", () => save(true));
    begin();
  });
})();
