// A training while it runs: curves, validation cases as they grow, and labels that look wrong.

import { follow, getJson } from "./api.js";
import { drawCurves, showNumbers } from "./charts.js";
import { $, formatDice, formatNumber, formatTime, make, replace } from "./dom.js";

const STATES = {
  waiting: "The training has not made a step yet.",
  running: "The training runs.",
  finished: "The training has ended.",
  stopped: "The training was stopped; `unetpp train ... --resume` continues it.",
  silent: "The training has said nothing for five minutes: it may have been stopped.",
};

/** Validation cases with a slider over the steps; it stays at the newest until a person moves it. */
function startGrowing() {
  const slider = $("growing-step");
  let fold = null;
  let steps = [];
  let pictures = 0;
  let isNewest = true;

  function show() {
    const step = steps[Number(slider.value)];
    $("growing-text").textContent = `Step ${formatNumber(step)}, validation ${Number(slider.value) + 1} of ${steps.length}`;
    slider.setAttribute("aria-valuetext", `step ${step}`);
    for (const figure of $("growing-cases").children) {
      const { known } = figure;
      const nearest = known.findLast((each) => each <= step) ?? known[0];
      figure.found.hidden = nearest === undefined;
      if (nearest === undefined) continue;
      figure.found.src = `/v1/run/growing/${fold}/${figure.number}_${nearest}.png`;
      figure.found.alt = `What was found at step ${nearest}`;
    }
  }

  function makeFigure({ number, id }) {
    const layer = (name, alt) => make("img", { src: `/v1/run/growing/${fold}/${number}_${name}.png`, alt, className: name });
    const found = make("img", { alt: "", className: "found" });
    const figure = make("figure", {}, make("div", { className: "layers" }, layer("image", `Case ${id}`), found, layer("label", "Outlines of its label")), make("figcaption", { title: id }, id));
    return Object.assign(figure, { found, number });
  }

  slider.oninput = () => {
    isNewest = Number(slider.value) === steps.length - 1;
    show();
  };
  $("growing-labels").onchange = () => $("growing-cases").classList.toggle("plain", !$("growing-labels").checked);
  return (run) => {
    const found = [...new Set(run.growing.flatMap((each) => each.steps))].sort((a, b) => a - b);
    const count = run.growing.reduce((sum, each) => sum + each.steps.length, 0); // those of a validation come one by one
    $("growing").hidden = !found.length;
    if (!found.length || (fold === run.fold && count === pictures)) return;
    pictures = count;
    if (fold !== run.fold || $("growing-cases").children.length !== run.growing.length) {
      fold = run.fold;
      replace($("growing-cases"), ...run.growing.map(makeFigure));
    }
    steps = found;
    run.growing.forEach((each, place) => { $("growing-cases").children[place].known = each.steps; });
    slider.max = steps.length - 1;
    slider.disabled = steps.length < 2;
    if (isNewest) slider.value = steps.length - 1;
    show();
  };
}

/** Cases of which the network is sure while their labels say something else. */
async function listSuspects() {
  const suspects = await getJson("/v1/run/labels");
  $("suspects").hidden = !suspects.length;
  replace(
    $("suspect-cases"),
    ...suspects.map((each) =>
      make("li", {}, make("figure", {},
        each.picture ? make("img", { src: each.picture, loading: "lazy", alt: `${each.id} with the outlines of its label and of what was found` }) : null,
        make("figcaption", {}, make("b", {}, each.id), ` Dice ${formatDice(each.dice)} against its label, ${formatDice(each.expected_dice)} expected (fold ${each.fold})`)))),
  );
}

export function startLive(app) {
  $("live").hidden = false;
  const showGrowing = startGrowing();
  let state = "";
  follow("/v1/run/events", (run) => {
    $("live-title").textContent = `Training: ${run.name}`;
    const fold = run.folds.find((each) => each.state === "running") ?? run.folds.at(-1);
    $("live-state").textContent = fold ? `Fold ${fold.fold}. ${STATES[fold.state] ?? ""}` : run.problem;
    if (!fold) return;
    showNumbers($("live-numbers"), [
      ["step", formatNumber(fold.step)],
      ["best validation Dice", formatDice(fold.best_dice)],
      ["images per second", formatNumber(fold.images_per_second, 1)],
      ["so far", formatTime(fold.elapsed_s)],
      ["left", formatTime(fold.seconds_left)],
    ]);
    drawCurves($("live-charts"), fold);
    showGrowing(fold);
    const states = run.folds.map((each) => each.state).join();
    if (states !== state) app.run(listSuspects); // folds are measured when they have ended
    state = states;
  });
}
