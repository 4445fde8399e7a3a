// Painting without a mouse: the arrow keys move a cross over the image, and Space paints there.

import { $ } from "./dom.js";

const MOVES = { ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1] };
const FAST = 10;

export function startPaintingKeys({ volume, isOn, paintAt }) {
  $("canvas").addEventListener("keydown", (event) => {
    if (!isOn()) return;
    const here = volume.place.map(Math.round);
    const move = MOVES[event.key];
    if (move) {
      const steps = event.shiftKey ? FAST : 1;
      volume.showCross();
      volume.moveTo(here.map((value, axis) => Math.max(0, Math.min(volume.shape[axis] - 1, value + steps * move[axis]))));
    } else if (event.key === " ") paintAt(here);
    else return;
    event.preventDefault();
  });
}
