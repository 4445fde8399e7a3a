// Zoom and place of the image by buttons and by keys; viewers of tiles have keys of their own.

import { $ } from "./dom.js";

const ZOOM = 1.5;
const PART = 0.1; // of the image, for a step of an arrow key
const MOVES = { ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1] };

/** `shown`: the views that move together; `isPainting`: whether arrow keys move the cross of the brush instead. */
export function startMoving({ shown, isPainting }) {
  const zoomBy = (factor) => shown().forEach((each) => each.zoomBy(factor));
  const zoomOut = () => shown().forEach((each) => each.zoomOut());
  const keys = { "+": () => zoomBy(ZOOM), "=": () => zoomBy(ZOOM), "-": () => zoomBy(1 / ZOOM), 0: zoomOut };

  $("zoom-in").onclick = keys["+"];
  $("zoom-out").onclick = keys["-"];
  $("zoom-all").onclick = zoomOut;
  for (const id of ["canvas", "canvas-beside"]) {
    $(id).addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const move = isPainting() ? undefined : MOVES[event.key];
      if (move) shown().forEach((each) => each.panBy(move.map((step) => PART * step)));
      else if (keys[event.key]) keys[event.key]();
      else return;
      event.preventDefault();
    });
  }
}
