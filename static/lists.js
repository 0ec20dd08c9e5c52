// Lists work without this file; with it, what can be done to rows appears when rows are ticked.
(() => {
  "use strict";

  // The buttons wait until something is ticked; the box in the head ticks and unticks all rows of the page.
  function prepareBulk(form) {
    const all = document.querySelector('input[form="bulk"][name="all"]');
    const boxes = [...document.querySelectorAll('input[form="bulk"][name="id"]')];
    const count = form.querySelector("[data-count]");
    const show = () => {
      const ticked = boxes.filter((box) => box.checked).length;
      form.hidden = ticked === 0;
      count.textContent = `${ticked} ${count.dataset.count}`;
      all.checked = ticked === boxes.length;
      all.indeterminate = ticked > 0 && ticked < boxes.length;
      for (const box of boxes) box.closest("tr").toggleAttribute("data-ticked", box.checked);
    };
    all.addEventListener("change", () => {
      for (const box of boxes) box.checked = all.checked;
      show();
    });
    let last = null; // with the shift key, all boxes from the last one on
    for (const box of boxes) {
      box.addEventListener("click", (event) => {
        if (event.shiftKey && last) {
          const ends = [boxes.indexOf(last), boxes.indexOf(box)].sort((one, other) => one - other);
          for (const other of boxes.slice(ends[0], ends[1] + 1)) other.checked = box.checked;
        }
        last = box;
        show();
      });
    }
    addEventListener("pageshow", show); // coming back, the browser has ticked the boxes again
    show();
  }

  // One menu at a time; Escape and a click elsewhere close it.
  function prepareDrops(drops) {
    const close = (except) => { for (const drop of drops) if (drop !== except) drop.open = false; };
    for (const drop of drops) drop.addEventListener("toggle", () => { if (drop.open) close(drop); });
    document.addEventListener("click", (event) => close(event.target.closest("[data-drop]")));
    document.addEventListener("keydown", (event) => {
      const open = drops.find((drop) => drop.open);
      if (event.key !== "Escape" || !open) return;
      open.open = false;
      open.querySelector("summary").focus();
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-bulk]").forEach(prepareBulk);
    const drops = [...document.querySelectorAll("[data-drop]")];
    if (drops.length) prepareDrops(drops);
    document.querySelectorAll("form[data-go-on]").forEach((form) => form.submit());
  });
})();
