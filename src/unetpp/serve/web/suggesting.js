// A quick answer to a stroke: what else of the object is meant. It is shown paler, until a person takes it.

import { post } from "./api.js";
import { $ } from "./dom.js";

export function startSuggesting(view, drawing, readStrokes) {
  let asked = 0; // of several answers the last one counts
  let isOffered = false;

  function drop() {
    asked += 1;
    if (isOffered) drawing.dropSuggestion();
    isOffered = false;
    $("suggestion").hidden = true;
  }

  async function ask() {
    const around = drawing.findNew();
    drop();
    if (!around || !$("suggests").checked) return;
    const number = asked;
    const state = $("paint-state");
    state.textContent = "Looking what else is meant ...";
    try {
      const found = await post(`/v1/jobs/${view.job.id}/suggestion`, { ...readStrokes(), around });
      if (number !== asked) return;
      state.textContent = found.voxels ? "" : "Nothing else is suggested.";
      if (!found.voxels) return;
      drawing.showSuggestion(found.box, found.runs, view.box);
      isOffered = true;
      $("suggestion-text").textContent = `Suggested, paler: ${found.voxels.toLocaleString("en")} more (size ${found.size}, ${found.seconds.toFixed(1)} s).`;
      $("suggestion").hidden = false;
    } catch (error) {
      if (number !== asked) return;
      if (error.status === 409) $("suggests").checked = false; // a model that cannot, and says so
      state.textContent = error.message;
    }
  }

  function take() {
    if (!isOffered) return;
    drawing.takeSuggestion();
    isOffered = false;
    $("suggestion").hidden = true;
    $("paint-state").textContent = "The suggestion is painted.";
  }

  $("suggestion-take").onclick = take;
  $("suggestion-drop").onclick = drop;
  $("suggests").onchange = drop;
  return { ask, drop, take, isOffered: () => isOffered };
}
