// Filters, search and order of a board. Without this script every claim is there, and the form is not.
"use strict";
(() => {
  // What a link to a notebook's cell leads to is unfolded.
  const unfold = () => document.getElementById(decodeURIComponent(location.hash.slice(1)))?.querySelector(":scope.cell > details")?.setAttribute("open", "");
  addEventListener("hashchange", unfold);
  addEventListener("DOMContentLoaded", unfold);
  unfold();
})();
(() => {
  const board = document.querySelector("ol.board");
  const form = document.querySelector("form.board-filters");
  if (!board || !form) return;
  const claims = [...board.children].map((element) => ({
    element,
    text: element.textContent.toLowerCase(),
    found: [...element.querySelectorAll(".found")].map((f) => f.dataset),
    data: element.dataset.data.split("|"),
    method: element.dataset.method.split("|"),
  }));
  const none = document.querySelector(".board-none");
  const orders = {
    finding: () => 0, // as the page comes, and sorting is stable
    ledger: (a, b) => a.element.dataset.order - b.element.dataset.order,
    id: (a, b) => a.element.id.localeCompare(b.element.id, "en", { numeric: true }),
  };
  const chosen = () => Object.fromEntries(new FormData(form));

  const fits = (claim, want) =>
    claim.found.some((f) => (!want.finding || f.finding === want.finding) && (!want.scale || f.scale === want.scale)) &&
    (!want.data || claim.data.includes(want.data)) &&
    (!want.method || claim.method.includes(want.method)) &&
    want.words.toLowerCase().split(/\s+/).every((word) => claim.text.includes(word));

  const show = () => {
    const want = chosen();
    const shown = claims.filter((claim) => (claim.element.hidden = !fits(claim, want)) === false).length;
    form.querySelector("output").textContent = shown === claims.length ? `${shown} claims` : `${shown} of ${claims.length} claims`;
    none.hidden = shown > 0;
    if (board.dataset.ordered !== want.order) {
      board.append(...[...claims].sort(orders[want.order]).map((claim) => claim.element));
      board.dataset.ordered = want.order;
    }
    const asked = new URLSearchParams(Object.entries(want).filter(([name, value]) => value && !(name === "order" && value === "finding")));
    const address = location.pathname + (asked.size ? `?${asked}` : "") + location.hash;
    try {
      history.replaceState(null, "", address);
    } catch {
      // A page that was opened as a file may not change its address.
    }
  };

  const jump = () => {
    const claim = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!claim || !board.contains(claim)) return;
    if (claim.hidden) form.reset(); // shows it
    setTimeout(() => claim.scrollIntoView(), 0);
  };

  board.dataset.ordered = "finding";
  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = form.elements.namedItem(name);
    if (field) field.value = value;
    if (field && field.value !== value) field.value = ""; // not on this board
  }
  if (!(form.elements.order.value in orders)) form.elements.order.value = "finding";
  form.hidden = false;
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(show, 0)); // once the fields are empty
  addEventListener("hashchange", jump);
  show();
  jump();
})();
