"use strict";
(() => {
  const start = (root) => {
    root.dataset.live = "yes";
    const { sizes, columns, panels, words } = JSON.parse(root.querySelector(".vl-data").textContent);
    const controls = [...root.querySelectorAll(".vl-controls input, .vl-controls select")];
    const drawings = root.querySelectorAll("svg[role=img]");
    const said = root.querySelector("output");
    const show = () => {
      const row = controls.reduce((sum, control, n) => sum * sizes[n] + Number(control.value), 0);
      const value = (name) => (columns[name].of ? columns[name].of[columns[name].at[row]] : columns[name][row]);
      const fill = (text) => text.replace(/\{(\w+)\}/g, (_, name) => value(name));
      panels.forEach(({ markup, alt }, n) => {
        drawings[n].innerHTML = fill(markup);
        drawings[n].setAttribute("aria-label", fill(alt));
        drawings[n].style.display = fill(alt) ? "" : "none";
      });
      said.textContent = fill(words);
      for (const control of controls) {
        if (control.type !== "range") continue;
        const text = control.dataset.values.split("|")[control.value];
        control.setAttribute("aria-valuetext", text);
        control.parentElement.querySelector("b").textContent = text;
      }
    };
    root.addEventListener("input", show);
    // JupyterLab takes the focus to the cell that was clicked, and arrow keys with it; the attribute on each control
    // keeps its shortcuts away.
    root.addEventListener("click", (event) => event.target.closest("input, select")?.focus());
    root.querySelector(".vl-controls").hidden = false;
    show(); // a browser may keep a control's place when a page is loaded again
  };
  // Each fragment brings this script, and each is started once, whichever script finds it.
  document.querySelectorAll(".vl-explorer:not([data-live])").forEach(start);
})();
