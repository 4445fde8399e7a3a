// Files on their way to the server, one case after the other; while its queue is full they wait here.

import { getJson, postForm } from "./api.js";
import { $ } from "./dom.js";

const PAUSE_MS = 2000;
const FULL = 429;
const ENDING = [0, 401, 503, 507]; // no server, no token, one that stops, a full disk: others would be refused, too
const MOST_PROBLEMS = 3;

export function startSending(app) {
  const waiting = [];
  const problems = [];
  let [sent, count, room] = [0, 0, 0];
  let opens = true; // the first image that the server takes is opened
  let sending = null; // the promise of the loop that sends
  let stop = () => {};

  function show(isFull = false) {
    $("sending").hidden = count < 2;
    $("sending-text").textContent = `${sent} of ${count} images are sent${isFull ? "; the queue of the server is full, the next follow" : ""}.`;
    $("sending-bar").value = sent / Math.max(count, 1);
  }

  /** Wait until the queue has room: an upload that it refuses is cut off, and a browser may not see why. */
  async function waitForRoom() {
    while (room < 1 && waiting.length) {
      ({ room } = await getJson("/v1/server"));
      if (room > 0) return;
      show(true);
      await new Promise((resolve) => {
        stop = resolve;
        setTimeout(resolve, PAUSE_MS);
      });
    }
  }

  async function sendNext() {
    const form = waiting[0];
    try {
      const job = await postForm("/v1/predict", form);
      room -= 1;
      app.jobs.follow(job, opens);
      opens = false;
    } catch (error) {
      room = 0; // is asked for again
      if (error.status === FULL) return;
      if (ENDING.includes(error.status)) throw error;
      problems.push(error.message);
    }
    if (waiting[0] === form) waiting.shift();
    sent += 1;
  }

  async function sendAll() {
    opens = true;
    try {
      while (waiting.length) {
        show();
        await waitForRoom();
        if (waiting.length) await sendNext();
      }
      if (problems.length) throw new Error(describe());
    } catch (error) {
      if (waiting.length && count > 1) error.message += ` ${waiting.length} of ${count} images were not sent.`;
      throw error;
    } finally {
      waiting.length = 0;
      problems.length = 0;
      [sent, count, room] = [0, 0, 0];
      $("sending").hidden = true;
      sending = null;
    }
  }

  function describe() {
    const more = problems.length - MOST_PROBLEMS;
    return [...problems.slice(0, MOST_PROBLEMS), ...(more > 0 ? [`${more} more images were refused.`] : [])].join(" ");
  }

  $("sending-stop").onclick = () => {
    waiting.length = 0;
    stop();
  };

  /** Send forms, each of one case, after those that wait already; ends when all are sent. */
  return (forms) => {
    waiting.push(...forms);
    count += forms.length;
    if (waiting.length) sending ??= sendAll();
    return sending;
  };
}
