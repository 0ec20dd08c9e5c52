// A stored prompt in the playground: which one is chosen, and fields for the values that it takes.
(() => {
  "use strict";

  const part = (id) => document.getElementById(id);
  const READ = {
    string: (text) => text,
    enum: (text) => text,
    integer: Number,
    number: Number,
    boolean: (text) => text === "true",
    json: JSON.parse,
  };

  function control(variable, id, make) {
    const choices = variable.type === "enum" ? variable.options : variable.type === "boolean" ? ["true", "false"] : null;
    if (!choices) {
      const isShort = ["integer", "number"].includes(variable.type);
      const field = make(isShort ? "input" : "textarea", "form-control form-control-sm");
      if (isShort) Object.assign(field, { type: "number", step: variable.type === "integer" ? "1" : "any" });
      else field.rows = 1;
      field.id = id;
      return field;
    }
    const field = make("select", "form-select form-select-sm");
    field.id = id;
    for (const choice of ["", ...choices]) {
      const option = make("option");
      option.value = option.textContent = choice;
      field.append(option);
    }
    return field;
  }

  window.tollhousePrompts = ({ setup, words, state, make, say, save, note }) => {
    let found = null; // the version that is chosen

    function fieldOf(variable) {
      const id = `variable-${variable.name}`;
      const label = make("label");
      label.htmlFor = id;
      const name = make("code");
      name.textContent = variable.name + (variable.is_required ? " *" : "");
      label.append(name);
      const field = control(variable, id, make);
      field.value = state().values?.[variable.name] ?? "";
      if (variable.default !== null) field.placeholder = typeof variable.default === "string" ? variable.default : JSON.stringify(variable.default);
      field.addEventListener("input", () => {
        state().values = { ...state().values, [variable.name]: field.value };
        save();
      });
      const help = make("p", "help");
      help.textContent = variable.description;
      return make("div", "field", label, field, help);
    }

    function show() {
      part("prompt-fields").replaceChildren(...(found ? found.variables.map(fieldOf) : []));
      part("prompt-facts").textContent = found ? say(words.prompt_is, { name: found.prompt }) : "";
      if (!found) part("stored").value = "";
    }

    // Whoever chooses another one meanwhile gets that one.
    async function choose(reference) {
      state().stored = reference;
      found = null;
      if (reference) {
        let told = null;
        try {
          const answer = await fetch(`${setup.urls.prompt}?reference=${encodeURIComponent(reference)}`, { headers: { accept: "application/json" } });
          if (answer.ok) told = await answer.json();
        } catch { /* as if it were gone */ }
        if (state().stored !== reference) return null;
        if (told) found = told;
        else {
          note(say(words.no_prompt, { name: reference }), "bad");
          state().stored = "";
        }
      }
      show();
      save();
      return found;
    }

    // The members of a call. Throws an Error with words for a value that cannot be sent.
    function members() {
      if (!found) return {};
      const variables = {};
      for (const variable of found.variables) {
        const text = part(`variable-${variable.name}`).value;
        if (!text) continue;
        try {
          variables[variable.name] = READ[variable.type](text);
        } catch (error) {
          throw new Error(say(words.bad_variable, { name: variable.name, problem: error.message }));
        }
      }
      return { prompt_id: state().stored, variables };
    }

    return { choose, members, isChosen: () => found !== null };
  };
})();
