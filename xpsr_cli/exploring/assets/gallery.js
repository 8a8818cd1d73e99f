/* Cards of the answers: they take their pictures from the slider, which holds them, and choose what it shows. */
(() => {
  "use strict";

  const form = document.querySelector(".tools");
  const list = document.querySelector(".cards");
  const cards = [...list.querySelectorAll(".card")];
  const answers = cards.filter((card) => card.classList.contains("answer"));
  let compared = [0, 1]; // panes of the slider, left and right

  function show() {
    ["Left picture", "Right picture"].forEach((title, side) => {
      const choice = document.querySelector(`.xpsr-slider select[title="${title}"]`);
      choice.value = compared[side];
      choice.dispatchEvent(new Event("change"));
    });
    mark();
  }

  function mark() {
    for (const card of cards) {
      const side = compared.indexOf(Number(card.dataset.pane));
      for (const part of [card, card.querySelector(".name")]) {
        if (side < 0) delete part.dataset.side;
        else part.dataset.side = ["left", "right"][side];
      }
      card.setAttribute("aria-pressed", String(side >= 0));
    }
  }

  function choose(pane) {
    if (compared.includes(pane)) return;
    compared = [compared[1], pane];
    show();
  }

  function arrange() {
    const [prompt, key] = [form.elements.prompt.value, form.elements.sort.value];
    const sorted = [...answers].sort((a, b) => a.dataset[key] - b.dataset[key] || a.dataset.pane - b.dataset.pane);
    for (const card of sorted) card.hidden = prompt !== "" && card.dataset.prompt !== prompt;
    list.append(...sorted);
    const seen = answers.filter((card) => !card.hidden).length;
    form.querySelector(".count").textContent = `${seen} of ${answers.length}`;
  }

  function start() {
    const pictures = document.querySelectorAll(".xpsr-slider .xpsr-pane:not(.xpsr-difference) img");
    for (const card of answers) card.querySelector("img").src = pictures[card.dataset.pane].src;
    for (const card of cards) card.addEventListener("click", () => choose(Number(card.dataset.pane)));
    for (const choice of [form.elements.prompt, form.elements.sort]) choice.addEventListener("change", arrange);
    const figure = document.querySelector(".xpsr-slider");
    figure.addEventListener("change", follow);
    figure.addEventListener("click", follow);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = list.hidden = false;
    arrange();
    mark();
  }

  function follow() { // what was chosen in the slider itself
    compared = ["Left picture", "Right picture"].map((title) =>
      Number(document.querySelector(`.xpsr-slider select[title="${title}"]`).value));
    mark();
  }

  document.addEventListener("DOMContentLoaded", start); // the slider is ready by then: its script asked first
})();
