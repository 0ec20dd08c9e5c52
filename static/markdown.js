// Markdown becomes elements here, never markup: every text is set as text, so nothing that a model says can run.
// Links lead to http, https and mailto only; pictures are shown as links, for looking at one would tell its server.
// A text that grows is read again from its last block on; what stands before it is not touched any more.
(() => {
  "use strict";

  const DEEPEST = 12; // lists and quotes in each other; what is deeper stands on the deepest level
  const MOST_OPEN = 60; // emphasis that is waiting for its end
  const LONGEST_LABEL = 1000;
  const LONGEST_URL = 2000;
  const MOST_BRACKETS = 20; // in each other, in an address
  const MOST_COLUMNS = 60;
  const SCHEMES = new Set(["http:", "https:", "mailto:"]);
  // No expression here may try the same characters twice: a line may have 100,000 of them.
  const FENCE = /^(\s*)(`{3,}|~{3,})([^`]*)$/;
  const HEADING = /^ {0,3}(#{1,6})[ \t](.*)$/s;
  const RULE = /^ {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$/;
  const QUOTE = /^ {0,3}>/;
  const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(?:\s(.*)|)$/s;
  const DELIMITER_ROW = /^\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?$/;
  const BARE_URL = /^https?:\/\/[^\s<>"'`\])*_~|]{1,1900}/;
  const SPECIAL = /[\\`*_~[!<h]/g;
  const WORD = /[\p{L}\p{N}]/u;

  const texts = { copy: "Copy", copied: "Copied" };

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // Inline -----------------------------------------------------------------------------------------------------------

  function safeUrl(text) {
    try {
      const url = new URL(text);
      return SCHEMES.has(url.protocol) ? url : null;
    } catch {
      return null;
    }
  }

  function link(url, label) {
    const made = element("a", "md-link", label || url.href);
    made.href = url.href;
    made.rel = "noopener noreferrer nofollow";
    made.target = "_blank";
    made.title = url.href;
    const target = url.protocol === "mailto:" ? url.pathname : url.host;
    if (!made.textContent.includes(target)) made.append(" ", element("span", "md-target", `(${target})`));
    return made;
  }

  // The end of `(address "title")` from its opening bracket on, and the address; null where there is none.
  function destination(text, start) {
    let depth = 0;
    const most = Math.min(text.length, start + LONGEST_URL);
    for (let at = start; at < most; at += 1) {
      const char = text[at];
      if (char === "\n") return null;
      if (char === "(") {
        if ((depth += 1) > MOST_BRACKETS) return null;
      } else if (char === ")" && (depth -= 1) === 0) {
        const inside = text.slice(start + 1, at).trim().replace(/\s+["'(].*$/s, "");
        return { end: at + 1, address: inside.replace(/^<(.*)>$/s, "$1") };
      }
    }
    return null;
  }

  // Looks for a text from a place on; remembers what it found, so that a flood of openings costs one search.
  function finder(text, wanted) {
    let found = -2;
    return (from) => {
      if (found !== -1 && found < from) found = text.indexOf(wanted, from);
      return found;
    };
  }

  function tokens(text) {
    const found = [];
    const labelEnd = finder(text, "](");
    const angleEnd = finder(text, ">");
    const noTicks = new Set(); // lengths of runs of backticks that nothing ends
    let plain = "";
    let at = 0;
    const flush = () => {
      if (plain) found.push({ text: plain });
      plain = "";
    };
    const push = (token) => {
      flush();
      found.push(token);
    };
    while (at < text.length) {
      SPECIAL.lastIndex = at;
      const next = SPECIAL.exec(text);
      const stop = next ? next.index : text.length;
      plain += text.slice(at, stop);
      at = stop;
      if (at >= text.length) break;
      const char = text[at];
      if (char === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] || "")) {
        plain += text[at + 1];
        at += 2;
      } else if (char === "`") {
        let end = at;
        while (text[end] === "`") end += 1;
        const ticks = text.slice(at, end);
        const close = ticks.length > 50 || noTicks.has(ticks.length) ? -1 : closing(text, ticks, end);
        if (close < 0) {
          noTicks.add(ticks.length);
          plain += ticks;
          at = end;
        } else {
          const code = text.slice(end, close);
          push({ code: code.startsWith(" ") && code.endsWith(" ") && code.trim() ? code.slice(1, -1) : code });
          at = close + ticks.length;
        }
      } else if (char === "[" || (char === "!" && text[at + 1] === "[")) {
        const open = char === "!" ? at + 1 : at;
        const close = labelEnd(open + 1);
        const to = close >= 0 && close - open <= LONGEST_LABEL ? destination(text, close + 1) : null;
        const url = to && safeUrl(to.address);
        if (url) {
          push({ link: url, label: text.slice(open + 1, close).replace(/[*_`]/g, ""), isPicture: open > at });
          at = to.end;
        } else {
          plain += text.slice(at, open + 1);
          at = open + 1;
        }
      } else if (char === "<") {
        const close = angleEnd(at + 1);
        const inside = close >= 0 && close - at <= LONGEST_URL ? text.slice(at + 1, close) : "";
        const url = /^(?:https?:|mailto:)\S+$/i.test(inside) ? safeUrl(inside) : null;
        if (url) push({ link: url, label: inside });
        else plain += char;
        at = url ? close + 1 : at + 1;
      } else if (char === "h") {
        const isStart = !WORD.test(text[at - 1] || " ");
        const match = isStart && text.startsWith("http", at) ? BARE_URL.exec(text.slice(at, at + LONGEST_URL)) : null;
        const address = match ? match[0].replace(/[.,;:!?]+$/, "") : "";
        const url = address ? safeUrl(address) : null;
        if (url) push({ link: url, label: address });
        else plain += char;
        at += url ? address.length : 1;
      } else if (char === "!") {
        plain += char;
        at += 1;
      } else {
        let end = at;
        while (text[end] === char) end += 1;
        const run = text.slice(at, end);
        const isTilde = char === "~";
        if (isTilde ? run.length !== 2 : run.length > 3) plain += run;
        else {
          const before = text[at - 1] || " ";
          const after = text[end] || " ";
          const isInside = char === "_" && WORD.test(before) && WORD.test(after);
          push({ run, opens: !isInside && !/\s/.test(after), closes: !isInside && !/\s/.test(before) });
        }
        at = end;
      }
    }
    flush();
    return found;
  }

  function closing(text, ticks, from) {
    let at = from;
    for (;;) {
      at = text.indexOf(ticks, at);
      if (at < 0) return -1;
      let end = at + ticks.length;
      while (text[end] === "`") end += 1;
      if (end - at === ticks.length) return at;
      at = end;
    }
  }

  // Which runs of `*`, `_` and `~` belong together; the others stay as they are.
  function pair(found) {
    const open = [];
    for (const token of found) {
      if (!token.run) continue;
      const place = token.closes ? open.findLastIndex((other) => other.run === token.run) : -1;
      if (place >= 0) {
        open[place].begins = true;
        token.ends = true;
        open.length = place;
      } else if (token.opens && open.length < MOST_OPEN) open.push(token);
    }
  }

  const EMPHASIS = { 1: ["em"], 2: ["strong"], 3: ["strong", "em"] };

  function inline(parent, text) {
    const found = tokens(text);
    pair(found);
    const stack = [parent];
    for (const token of found) {
      const here = stack[stack.length - 1];
      if (token.begins) {
        const names = token.run[0] === "~" ? ["del"] : EMPHASIS[token.run.length];
        const outer = element(names[0]);
        here.append(outer);
        stack.push(names[1] ? outer.appendChild(element(names[1])) : outer);
      } else if (token.ends) stack.pop();
      else if (token.code !== undefined) here.append(element("code", "md-inline", token.code));
      else if (token.link) here.append(link(token.link, token.isPicture ? token.label || token.link.pathname : token.label));
      else here.append(token.text ?? token.run);
    }
  }

  // Blocks -----------------------------------------------------------------------------------------------------------

  function fenceOf(line) {
    const match = FENCE.exec(line);
    return match && (match[2][0] === "~" || !match[3].includes("`")) ? match : null;
  }

  function endsFence(line, fence) {
    const text = line.trim();
    return text.length >= fence[2].length && text === fence[2][0].repeat(text.length);
  }

  function starts(lines, at) {
    const line = lines[at];
    if (fenceOf(line)) return "fence";
    if (HEADING.test(line)) return "heading";
    if (RULE.test(line)) return "rule";
    if (QUOTE.test(line)) return "quote";
    if (ITEM.test(line) && !/^\s{4,}/.test(line)) return "list";
    return line.includes("|") && isDelimiterRow(lines[at + 1]) ? "table" : null;
  }

  function isDelimiterRow(line) {
    return line !== undefined && line.includes("-") && line.length < LONGEST_URL && DELIMITER_ROW.test(line.trim());
  }

  // The blocks of some lines: [{kind, from, to}], without the blank lines between them.
  function blocks(lines) {
    const found = [];
    let at = 0;
    while (at < lines.length) {
      if (!lines[at].trim()) {
        at += 1;
        continue;
      }
      const kind = starts(lines, at) || "paragraph";
      const from = at;
      at = ends[kind](lines, at);
      found.push({ kind, from, to: at });
    }
    return found;
  }

  const ends = {
    heading: (_lines, at) => at + 1,
    rule: (_lines, at) => at + 1,
    fence(lines, start) {
      const fence = fenceOf(lines[start]);
      let at = start + 1;
      while (at < lines.length && !endsFence(lines[at], fence)) at += 1;
      return Math.min(at + 1, lines.length);
    },
    quote(lines, start) {
      let at = start;
      while (at < lines.length && QUOTE.test(lines[at])) at += 1;
      return at;
    },
    table(lines, start) {
      let at = start + 2;
      while (at < lines.length && lines[at].includes("|")) at += 1;
      return at;
    },
    list(lines, start) {
      let at = start + 1;
      let last = at;
      for (; at < lines.length; at += 1) {
        const line = lines[at];
        if (!line.trim()) continue;
        if (!/^\s/.test(line) && (!ITEM.test(line) || RULE.test(line))) {
          if (at > last || starts(lines, at)) break; // a line right below an item goes on with it
        }
        if (/^\s/.test(line) && fenceOf(line)) at = ends.fence(lines, at) - 1;
        last = at + 1;
      }
      return last;
    },
    paragraph(lines, start) {
      let at = start + 1;
      while (at < lines.length && lines[at].trim() && !starts(lines, at)) at += 1;
      return at;
    },
  };

  function codeBlock(text, language) {
    const block = element("div", "md-code");
    const head = block.appendChild(element("div", "md-code-head"));
    head.append(element("span", "", language));
    const button = head.appendChild(element("button", "btn btn-quiet btn-sm", texts.copy));
    button.type = "button";
    button.dataset.mdCopy = "";
    const pre = block.appendChild(element("pre"));
    pre.tabIndex = 0;
    pre.appendChild(element("code")).append(document.createTextNode(text));
    return block;
  }

  function fenceText(lines) {
    const fence = fenceOf(lines[0]);
    const isClosed = lines.length > 1 && endsFence(lines[lines.length - 1], fence);
    const strip = new RegExp(`^\\s{0,${Math.min(fence[1].length, 40)}}`);
    const inside = lines.slice(1, isClosed ? -1 : undefined).map((line) => line.replace(strip, ""));
    return { text: inside.join("\n"), language: fence[3].trim().split(/\s/)[0].slice(0, 40), isClosed };
  }

  function cells(line) {
    const inner = line.trim().replace(/^\|/, "").replace(/(^|[^\\])\|$/, "$1");
    return inner.split(/(?<!\\)\|/).slice(0, MOST_COLUMNS).map((cell) => cell.trim().replaceAll("\\|", "|"));
  }

  const renderers = {
    heading(lines) {
      const [, marks, rest] = HEADING.exec(lines[0]);
      const made = element(`h${Math.min(6, marks.length + 2)}`, "md-heading"); // the page has its own h1 and h2
      const text = rest.trim();
      let end = text.length;
      while (text[end - 1] === "#") end -= 1; // marks at the end too are decoration
      inline(made, end === 0 || text[end - 1] === " " ? text.slice(0, end).trimEnd() : text);
      return made;
    },
    rule: () => element("hr"),
    fence(lines) {
      const { text, language } = fenceText(lines);
      return codeBlock(text, language);
    },
    quote(lines, depth) {
      const made = element("blockquote");
      const inner = lines.map((line) => line.replace(/^ {0,3}> ?/, ""));
      if (depth < DEEPEST) render(made, inner, depth + 1);
      else inline(made.appendChild(element("p")), inner.join("\n").replace(/^[ >]+/gm, ""));
      return made;
    },
    table(lines) {
      const frame = element("div", "table-scroll md-table");
      frame.tabIndex = 0;
      const table = frame.appendChild(element("table", "table"));
      const aligns = cells(lines[1]).map((cell) => (/:$/.test(cell) ? (/^:/.test(cell) ? "md-center" : "md-right") : ""));
      const heads = cells(lines[0]);
      const row = (texts_, name) => {
        const made = element("tr");
        heads.forEach((_head, place) => inline(made.appendChild(element(name, aligns[place])), texts_[place] || ""));
        return made;
      };
      table.appendChild(element("thead")).append(row(heads, "th"));
      for (const head of table.querySelectorAll("th")) head.scope = "col";
      table.appendChild(element("tbody")).append(...lines.slice(2).map((line) => row(cells(line), "td")));
      return frame;
    },
    list(lines) {
      const top = element("div", "md-list");
      const open = []; // {indent, list, item}: the lists that the next line may belong to
      let words = [];
      const flush = () => {
        if (words.length && open.length) inline(open[open.length - 1].item.appendChild(element("p")), words.join("\n"));
        words = [];
      };
      for (let at = 0; at < lines.length; at += 1) {
        const match = RULE.test(lines[at]) ? null : ITEM.exec(lines[at]);
        if (match) {
          flush();
          addItem(top, open, match);
          words = [(match[3] || "").trim().replace(/^\[ \]\s/, "☐ ").replace(/^\[[xX]\]\s/, "☑ ")];
          continue;
        }
        const line = lines[at].trim();
        if (line && fenceOf(line)) {
          flush();
          const end = ends.fence(lines, at);
          open[open.length - 1].item.append(renderers.fence(lines.slice(at, end)));
          at = end - 1;
        } else if (line) words.push(line);
        else flush();
      }
      flush();
      return top;
    },
    paragraph(lines) {
      const made = element("p");
      inline(made, lines.map((line) => line.trim()).join("\n"));
      return made;
    },
  };

  function addItem(top, open, match) {
    const indent = match[1].replaceAll("\t", "    ").length;
    const isNumbered = /\d/.test(match[2]);
    while (open.length > 1 && indent < open[open.length - 1].indent) open.pop();
    let level = open[open.length - 1];
    const name = isNumbered ? "OL" : "UL";
    if (!level || (indent > level.indent + 1 && open.length < DEEPEST)) {
      const list = element(name.toLowerCase());
      (level ? level.item : top).append(list);
      level = { indent, list, item: null };
      open.push(level);
    } else if (level.list.tagName !== name) {
      const list = element(name.toLowerCase());
      level.list.after(list);
      level.list = list;
    }
    const first = Number.parseInt(match[2], 10);
    if (isNumbered && first !== 1 && !level.list.children.length) level.list.start = first;
    level.item = level.list.appendChild(element("li"));
  }

  function render(parent, lines, depth) {
    for (const block of blocks(lines)) parent.append(renderers[block.kind](lines.slice(block.from, block.to), depth));
  }

  // A text that grows ------------------------------------------------------------------------------------------------

  class Growing {
    constructor(root) {
      this.root = root;
      this.start = 0; // where the block begins that may still change
      this.live = []; // its elements
      this.code = null; // its text node, where it is code that goes on
    }

    // The text so far; it begins with what was given before, or everything is made anew.
    update(text, isWhole) {
      const lines = text.slice(this.start).split("\n");
      const found = blocks(lines);
      const keep = isWhole ? 0 : this.open(lines, found);
      const settled = found.length - keep;
      if (settled === 0 && found.length === 1 && this.grow(lines)) return;
      for (const node of this.live) node.remove();
      this.live = [];
      this.code = null;
      found.forEach((block, place) => {
        const made = renderers[block.kind](lines.slice(block.from, block.to), 0);
        this.root.append(made);
        if (place < settled) return;
        this.live.push(made);
        if (block.kind === "fence" && found.length === place + 1) this.code = made.querySelector("code").firstChild;
      });
      if (settled) {
        const next = settled < found.length ? found[settled].from : lines.length;
        this.start += lines.slice(0, next).reduce((sum, line) => sum + line.length + 1, 0);
      }
    }

    // How many blocks at the end may still change: the last one, and the one before while the last has no whole line.
    open(lines, found) {
      if (!found.length) return 0;
      const last = found[found.length - 1];
      return Math.min(found.length, last.to === lines.length && last.to - last.from === 1 ? 2 : 1);
    }

    // Code that goes on only gets longer.
    grow(lines) {
      if (!this.code || !fenceOf(lines[0])) return false;
      const now = fenceText(lines).text;
      const before = this.code.data;
      if (!now.startsWith(before)) return false;
      this.code.appendData(now.slice(before.length));
      return true;
    }
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-md-copy]");
    if (!button) return;
    const code = button.closest(".md-code").querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = texts.copied;
      setTimeout(() => { button.textContent = texts.copy; }, 2000);
    } catch {
      getSelection().selectAllChildren(code); // no permission, or no https: the text is marked instead
    }
  });

  window.tollhouseMarkdown = {
    texts,
    Growing,
    render(root, text) {
      root.replaceChildren();
      new Growing(root).update(text, true);
    },
  };
})();
