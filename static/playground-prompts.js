// A stored prompt in the playground: which one is chosen, and fields for the values that it takes.
(() => {
  "use strict";

  const part = (id) => document.getElementById(id);
  const ID = /^[0-9a-f]{8}-[0-9a-f-]{27}(@|$)/;
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

  window.tollhousePrompts = ({ setup, words, state, make, say, number, save, note }) => {
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
        field.classList.remove("is-invalid");
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

    // The choice of this reference, made if it is not there: the address may name one that is not offered.
    function offer(reference) {
      const there = [...part("stored").options].find((one) => one.value === reference);
      if (there) return there;
      const made = part("stored").appendChild(make("option", "", reference));
      made.value = reference;
      return made;
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
        if (told) {
          found = told;
          if (ID.test(reference)) Object.assign(offer(reference), { value: reference, textContent: told.prompt });
        } else {
          note(say(words.no_prompt, { name: reference }), "bad");
          state().stored = "";
        }
      }
      show();
      save();
      return found;
    }

    // What the call brings for a variable; undefined = nothing. Throws an Error with words for what the prompt refuses.
    function valueOf(variable, field) {
      const { name, max_chars: most } = variable;
      if (!field.checkValidity()) throw new Error(say(words.bad_number, { name }));
      if (!field.value) {
        if (variable.is_required) throw new Error(say(words.missing_variable, { name }));
        return undefined;
      }
      let value;
      try {
        value = READ[variable.type](field.value);
      } catch (error) {
        throw new Error(say(words.bad_variable, { name, problem: error.message }));
      }
      const text = typeof value === "string" ? value : JSON.stringify(value);
      if (most && [...text].length > most) throw new Error(say(words.long_variable, { name, count: number(most) }));
      return value;
    }

    // The members of a call. Throws an Error with words for a value that cannot be sent.
    function members() {
      if (!found) return {};
      const variables = {};
      for (const variable of found.variables) {
        const field = part(`variable-${variable.name}`);
        try {
          const value = valueOf(variable, field);
          if (value !== undefined) variables[variable.name] = value;
        } catch (error) {
          field.classList.add("is-invalid");
          throw error;
        }
      }
      return { prompt_id: state().stored, variables };
    }

    // Without a message of the person a prompt can be sent that ends with one of the user.
    return { offer, choose, members, isChosen: () => found !== null, isComplete: () => found !== null && found.is_complete };
  };
})();
