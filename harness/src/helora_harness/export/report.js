// Shows, of each section's figures, the one that fits the choices best. Every figure is drawn already.
"use strict";
const asked = new URLSearchParams(location.hash.slice(1));
for (const section of document.querySelectorAll(".chooser")) {
  const selects = [...section.querySelectorAll("select")];
  const figures = [...section.querySelectorAll("figure[data-choice]")];
  const choices = new Map(figures.map((figure) => [figure, JSON.parse(figure.dataset.choice)]));
  const note = section.querySelector("[role=status]");

  const show = (changed) => {
    const fit = (figure) => selects.reduce((sum, select) => {
      const hit = choices.get(figure)[select.name] === select.value;
      return sum + (hit ? (select === changed ? selects.length : 1) : 0);
    }, 0);
    const best = figures.reduce((a, b) => (fit(b) > fit(a) ? b : a));
    const moved = selects.filter((select) => select.value !== choices.get(best)[select.name]);
    note.textContent = moved.length
      ? "Nothing was measured for that choice together: " +
        moved.map((select) => `${select.name} is now ${choices.get(best)[select.name] || "any"}`).join(", ") + "."
      : "";
    for (const select of selects) select.value = choices.get(best)[select.name];
    for (const figure of figures) figure.hidden = figure !== best;
    if (changed) {
      for (const select of selects) asked.set(`${section.id}.${select.name}`, select.value);
      history.replaceState(null, "", `#${asked}`);
    }
  };

  for (const select of selects) {
    const wanted = asked.get(`${section.id}.${select.name}`);
    if (wanted !== null && [...select.options].some((option) => option.value === wanted)) select.value = wanted;
    select.addEventListener("change", () => show(select));
  }
  show(null);
}
