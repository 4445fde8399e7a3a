// The drawing over an image: what is painted and what is suggested, voxel by voxel, in NiiVue's bitmap.

/** Values of the drawing above this one are suggested, not painted. */
export const SUGGESTED = 128;

export class Drawing {
  /** `view`: the VolumeView that is painted on. */
  constructor(view) {
    this.view = view;
  }

  get nv() {
    return this.view.nv;
  }

  get shape() {
    return this.view.shape;
  }

  start(colors) {
    const { nv } = this;
    nv.setDrawColormap(colors);
    nv.createEmptyDrawing();
    this.seen = new Uint8Array(nv.drawBitmap);
    nv.setDrawOpacity(0.75);
    nv.setDrawingEnabled(true);
  }

  setPen(value, isFilled, size) {
    this.nv.setDrawingEnabled(true);
    this.nv.setPenValue(value, isFilled);
    this.nv.opts.penSize = size;
  }

  rest() {
    this.nv.setDrawingEnabled(false);
  }

  undo() {
    this.nv.drawUndo();
    this.seen.set(this.nv.drawBitmap);
  }

  /** The middle of what was painted since the last call, as a voxel; null: nothing was. */
  findNew() {
    const bitmap = this.nv.drawBitmap;
    const [width, height] = this.shape;
    const sums = [0, 0, 0];
    let count = 0;
    for (let place = 0; place < bitmap.length; place += 1) {
      const value = bitmap[place] > SUGGESTED ? 0 : bitmap[place];
      if (value && value !== this.seen[place]) {
        count += 1;
        sums[0] += place % width;
        sums[1] += Math.floor(place / width) % height;
        sums[2] += Math.floor(place / (width * height));
      }
      this.seen[place] = value;
    }
    return count ? sums.map((sum) => Math.round(sum / count)) : null;
  }

  /** Show suggested voxels of a box of the image, where nothing is painted; `part`: the box that is open. */
  showSuggestion(box, runs, part) {
    const bitmap = this.nv.drawBitmap;
    const shape = this.shape;
    const [width, height] = box.map(([start, stop]) => stop - start);
    for (const [first, length, index] of runs) {
      for (let inside = first; inside < first + length; inside += 1) {
        const within = [inside % width, Math.floor(inside / width) % height, Math.floor(inside / (width * height))];
        const place = within.map((value, axis) => value + box[axis][0] - (part ? part[axis][0] : 0));
        if (place.some((value, axis) => value < 0 || value >= shape[axis])) continue;
        const at = place[0] + shape[0] * (place[1] + shape[1] * place[2]);
        if (!bitmap[at]) bitmap[at] = index + 1 + SUGGESTED;
      }
    }
    this.nv.refreshDrawing(true);
  }

  takeSuggestion() {
    this.changeSuggestion((value) => value - SUGGESTED);
    this.seen.set(this.nv.drawBitmap);
    this.nv.drawAddUndoBitmap();
    this.view.painted();
  }

  dropSuggestion() {
    this.changeSuggestion(() => 0);
  }

  changeSuggestion(change) {
    const bitmap = this.nv?.drawBitmap;
    if (!bitmap) return;
    for (let place = 0; place < bitmap.length; place += 1) {
      if (bitmap[place] > SUGGESTED) bitmap[place] = change(bitmap[place]);
    }
    this.nv.refreshDrawing(true);
  }

  fillBetween() {
    this.nv.interpolateMaskSlices();
    this.seen.set(this.nv.drawBitmap);
    this.nv.refreshDrawing(true);
    this.nv.drawAddUndoBitmap();
  }

  /** Paint a disc across the head-to-feet axis. */
  paintDisc([x, y, z], value, size) {
    const [width, height] = this.shape;
    const radius = size / 2;
    const far = Math.floor(radius);
    for (let dy = -far; dy <= far; dy += 1) {
      for (let dx = -far; dx <= far; dx += 1) {
        const isInside = dx * dx + dy * dy <= radius * radius && x + dx >= 0 && x + dx < width && y + dy >= 0 && y + dy < height;
        if (isInside) this.nv.drawBitmap[x + dx + width * (y + dy + height * z)] = value;
      }
    }
    this.nv.refreshDrawing(true);
    this.nv.drawAddUndoBitmap();
  }

  /** Paint over the predicted object at a voxel; returns its number of voxels. */
  paintObject(start, value) {
    const [width, height, depth] = this.shape;
    const indices = this.view.indices.get(this.view.size);
    const bitmap = this.nv.drawBitmap;
    const first = start[0] + width * (start[1] + height * start[2]);
    const wanted = indices[first];
    if (!wanted) return 0;
    const seen = new Uint8Array(indices.length);
    const stack = [first];
    seen[first] = 1;
    let count = 0;
    while (stack.length) {
      const place = stack.pop();
      bitmap[place] = value;
      count += 1;
      const x = place % width;
      const y = Math.floor(place / width) % height;
      const z = Math.floor(place / (width * height));
      const near = [x > 0 && place - 1, x < width - 1 && place + 1, y > 0 && place - width, y < height - 1 && place + width];
      near.push(z > 0 && place - width * height, z < depth - 1 && place + width * height);
      for (const next of near) {
        if (next === false || seen[next] || indices[next] !== wanted) continue;
        seen[next] = 1;
        stack.push(next);
      }
    }
    this.seen.set(bitmap);
    this.nv.refreshDrawing(true);
    this.nv.drawAddUndoBitmap();
    return count;
  }

  /** What was painted as runs [first voxel, number, class index]; pens are numbered from 1, classes from 0. */
  readRuns() {
    const bitmap = this.nv.drawBitmap;
    const runs = [];
    let start = 0;
    while (start < bitmap.length) {
      const value = bitmap[start];
      let stop = start + 1;
      while (stop < bitmap.length && bitmap[stop] === value) stop += 1;
      if (value && value <= SUGGESTED) runs.push([start, stop - start, value - 1]);
      start = stop;
    }
    return runs;
  }
}
