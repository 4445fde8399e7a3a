// A training while it runs.

import { follow } from "./api.js";
import { drawCurves, showNumbers } from "./charts.js";
import { $, formatDice, formatNumber, formatTime } from "./dom.js";

const STATES = {
  waiting: "The training has not made a step yet.",
  running: "The training runs.",
  finished: "The training has ended.",
  stopped: "The training was stopped; `unetpp train ... --resume` continues it.",
  silent: "The training has said nothing for five minutes: it may have been stopped.",
};

export function startLive() {
  $("live").hidden = false;
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
  });
}
