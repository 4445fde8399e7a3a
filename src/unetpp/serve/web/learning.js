// Corrected cases, and the training that learns from them.

import { follow, getJson, post, remove } from "./api.js";
import { clearCurves, drawCurves, showNumbers } from "./charts.js";
import { $, formatDice, formatTime, make, replace } from "./dom.js";

const RUNNING = ["preparing", "training", "comparing"];
const STATES = {
  preparing: "Gathering the cases.",
  training: "Training in the background; you can go on meanwhile.",
  comparing: "Comparing both models on the validation cases.",
  accepted: "The new model is in the list of models, beside the old one.",
};

export function startLearning(app) {
  let current = null;
  let timer = null;

  const ofModel = () => `model=${encodeURIComponent(app.chosenModel())}`;

  async function list() {
    const cases = await getJson(`/v1/corrections?${ofModel()}`);
    $("learn").hidden = !cases.length && !current;
    $("corrected-count").textContent = cases.length === 1 ? "1 image is corrected." : `${cases.length} images are corrected.`;
    const canTrain = app.model(app.chosenModel())?.can_train_further;
    if (!canTrain && cases.length) $("corrected-count").textContent += " A model of several networks, or an exported one, is not trained further here: serve the model file of one fold.";
    $("train").disabled = !cases.length || !canTrain;
    replace(
      $("corrected"),
      ...cases.map((each) => {
        const text = `${each.painted.toLocaleString("en")} voxels painted${each.unsaid ? `, ${Math.round(100 * each.unsaid)} % unsaid` : ""}`;
        const drop = make("button", { type: "button", className: "small", ariaLabel: `Remove the correction of ${each.name}`, onclick: () => app.run(async () => {
          await remove(`/v1/corrections/${encodeURIComponent(each.name)}?${ofModel()}`);
          await list();
        }) }, "Remove");
        return make("li", {}, make("span", { className: "open" }, make("span", { className: "name" }, each.name), make("small", {}, text)), drop);
      }),
    );
  }

  async function drawLog(training) {
    const run = await getJson(`/v1/trainings/${training.id}/curves`);
    const fold = run.folds[0];
    if (!fold) return;
    drawCurves($("training-charts"), fold);
    const left = RUNNING.includes(training.state) ? formatTime(fold.seconds_left) : "";
    if (training.state === "training") showNumbers($("training-numbers"), [["step", String(fold.step)], ["left", left]]);
  }

  function show(training) {
    const isNew = current?.id !== training.id;
    current = training;
    $("learn").hidden = false;
    const runs = RUNNING.includes(training.state);
    $("train").hidden = runs;
    $("stop-training").hidden = !runs;
    $("accept").hidden = training.state !== "better";
    $("new-model").hidden = !["better", "accepted"].includes(training.state);
    $("new-model").href = `/v1/trainings/${training.id}/model`;
    const basis = training.basis && `Learns from ${training.basis}`;
    const text = [STATES[training.state] ?? "", runs ? basis : training.finding].filter(Boolean).join(" ");
    $("training-state").textContent = text;
    if (training.new_dice !== null) {
      showNumbers($("training-numbers"), [
        ["Dice of the old model", formatDice(training.old_dice)],
        ["Dice of the new model", formatDice(training.new_dice)],
        ["validation cases", String(training.validated)],
      ]);
    }
    if (isNew) clearCurves($("training-charts"));
    clearInterval(timer);
    const redraw = () => drawLog(training).catch(() => {});
    redraw();
    if (runs) timer = setInterval(redraw, 3000);
  }

  function watch(training) {
    show(training);
    if (RUNNING.includes(training.state)) follow(`/v1/trainings/${training.id}/events`, show, (each) => !RUNNING.includes(each.state));
  }

  app.learning = {
    saved(correction) {
      app.run(list);
      $("learn").hidden = false;
      $("training-state").textContent = `The correction of ${correction.name} is saved.`;
    },
  };
  $("model").addEventListener("change", () => app.run(list));
  $("train").onclick = () => app.run(async () => watch(await post("/v1/trainings", { minutes: Number($("minutes").value), model: app.chosenModel() })));
  $("stop-training").onclick = () => app.run(async () => show(await post(`/v1/trainings/${current.id}/cancel`)));
  $("accept").onclick = () =>
    app.run(async () => {
      const accepted = await post(`/v1/trainings/${current.id}/accept`);
      show(accepted);
      await app.loadModels();
      app.chooseModel(accepted.new_model);
      await list();
    });
  app.run(async () => {
    const [last] = await getJson("/v1/trainings");
    await list();
    if (last) watch(last);
  });
}
