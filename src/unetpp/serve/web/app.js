// The page: which parts are shown, and what they share.

import { getJson, post } from "./api.js";
import { startAdding } from "./adding.js";
import { $, make, replace, say } from "./dom.js";
import { startJobs } from "./jobs.js";
import { startLearning } from "./learning.js";
import { startLive } from "./live.js";
import { startViewing } from "./viewing.js";

const app = { models: [], server: null };

/** Run what a person asked for; an error becomes one sentence, which stays when a result opens unasked. */
app.run = async (work, isAsked = true) => {
  try {
    if (isAsked) say(null);
    return await work();
  } catch (error) {
    if (error.status === 401) askToken();
    else say(error.message);
    return undefined;
  }
};

app.model = (id) => app.models.find((model) => model.id === id);
app.chosenModel = () => $("model").value || app.models[0]?.id;

app.loadModels = async () => {
  app.models = await getJson("/v1/models");
  const chosen = $("model").value;
  replace($("model"), ...app.models.map((model) => make("option", { value: model.id }, model.name)));
  if (app.model(chosen)) $("model").value = chosen;
  $("model-choice").hidden = app.models.length < 2;
  describe();
};

/** Choose the model of what comes next, as a person does. */
app.chooseModel = (id) => {
  $("model").value = id;
  $("model").dispatchEvent(new Event("change"));
};

function describe() {
  const model = app.model(app.chosenModel());
  if (!model) return;
  const names = model.classes.slice(1).map((each) => each.name).join(", ");
  $("about").textContent = `${model.dims === 2 ? "Images" : "Volumes"}: finds ${names}. Learned from ${model.trained_on}.`;
}

function askToken() {
  $("login").hidden = false;
  $("work").hidden = true;
  $("token").focus();
}

async function start() {
  app.server = await getJson("/v1/server");
  $("login").hidden = true;
  if (app.server.has_run) startLive(app);
  if (!app.server.models) return;
  await app.loadModels();
  $("work").hidden = false;
  if (app.started) return;
  app.started = true;
  startViewing(app);
  startJobs(app);
  startLearning(app);
  await startAdding(app);
}

$("message").querySelector("button").onclick = () => say(null);
$("model").addEventListener("change", describe);
$("login").onsubmit = (event) => {
  event.preventDefault();
  app.run(async () => {
    await post("/v1/login", { token: $("token").value });
    await start();
  });
};
app.run(start);
