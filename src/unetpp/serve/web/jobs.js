// The list of images: queue, progress, results, and those to review first.

import { follow, getJson, post, remove } from "./api.js";
import { $, formatDice, formatNumber, formatTime, make, press, replace } from "./dom.js";

const addressOf = (id) => `#job=${encodeURIComponent(id)}`;
const isUndone = (job) => ["queued", "running"].includes(job.state);
const RETRY_MS = 2000;
const MOST = 1000; // that the server lists at once; it keeps about as many
const DRAWN = 100;

export function startJobs(app) {
  const jobs = new Map();
  let stop = null; // of the events of the job that is followed
  let byDoubt = false;
  let current = null;
  let drawn = DRAWN;

  const doubtOf = (job) => {
    const best = job.sizes.at(-1);
    if (!best) return -1;
    return (best.review ? 1 : 0) + 1 - (best.expected_dice ?? best.confidence ?? 0);
  };

  function describe(job) {
    const best = job.sizes.at(-1);
    if (job.state === "queued") return job.position ? `waits behind ${job.position}` : "waits";
    if (job.state === "running") return `${Math.round(100 * job.progress)} %${job.seconds_left ? `, ${formatTime(job.seconds_left)} left` : ""}`;
    if (job.state === "failed") return job.problem ? `${job.problem.got}; expected ${job.problem.expected}. ${job.problem.action}` : "failed";
    if (job.state === "cancelled") return "cancelled";
    const known = best.expected_dice !== null ? `expected Dice ${formatDice(best.expected_dice)}` : best.confidence !== null ? `confidence ${formatDice(best.confidence)}` : "nothing found";
    return best.review ? `${known}; review: ${best.why}` : known;
  }

  function makeItem(job) {
    const bad = job.state === "failed" || job.sizes.at(-1)?.review;
    const open = make(
      "button",
      { type: "button", className: "open", disabled: job.state !== "done", title: job.name, onclick: () => app.viewer.mayLeave() && show(job) },
      make("span", { className: "name" }, job.name),
      make("small", bad ? { className: "bad" } : {}, describe(job)),
    );
    if (job.id === current) open.setAttribute("aria-current", "true");
    if (job.state === "running") open.append(make("progress", { max: 1, value: job.progress, ariaLabel: `Progress of ${job.name}` }));
    const ends = isUndone(job);
    const end = make(
      "button",
      { type: "button", className: "small", ariaLabel: `${ends ? "Cancel" : "Remove"} ${job.name}`, onclick: () => app.run(() => (ends ? cancel(job) : drop(job))) },
      ends ? "Cancel" : "Remove",
    );
    return make("li", {}, open, end);
  }

  function draw() {
    const listed = [...jobs.values()].filter((job) => !byDoubt || job.state === "done");
    const sorted = listed.sort(byDoubt ? (a, b) => doubtOf(b) - doubtOf(a) : (a, b) => b.created - a.created);
    const focused = document.activeElement?.closest?.("#jobs") ? document.activeElement.getAttribute("aria-label") ?? document.activeElement.title : null;
    replace($("jobs"), ...sorted.slice(0, drawn).map(makeItem));
    $("order").hidden = !byDoubt;
    $("order").textContent = `${formatNumber(listed.length)} finished ${listed.length === 1 ? "image" : "images"}, the most doubtful first.`;
    $("more-jobs").hidden = sorted.length <= drawn;
    $("more-jobs").textContent = `Show all ${formatNumber(sorted.length)}`;
    if (focused) [...$("jobs").querySelectorAll("button")].find((each) => (each.getAttribute("aria-label") ?? each.title) === focused)?.focus();
    $("jobs-card").hidden = !jobs.size;
    $("welcome").hidden = jobs.size > 0;
  }

  /** Open a result; its address is a link to it, and the back button leads to the image before. */
  function show(job, isAsked = true) {
    current = job.id;
    if (location.hash !== addressOf(current)) history[location.hash ? "pushState" : "replaceState"](null, "", addressOf(current));
    draw();
    app.run(() => app.viewer.open(job), isAsked);
  }

  /** Open the image that the address names, which may have been removed; returns whether it names one. */
  async function openAddressed() {
    const id = new URLSearchParams(location.hash.slice(1)).get("job");
    if (!id || id === current) return Boolean(id);
    if (!app.viewer.mayLeave()) {
      history.pushState(null, "", addressOf(app.viewer.shown()));
      return true;
    }
    const job = await getJson(`/v1/jobs/${encodeURIComponent(id)}`).catch((error) => {
      throw error.status === 404 ? new Error("The image of this link is not on the server any more. Add it again.") : error;
    });
    jobs.set(job.id, job);
    if (job.state === "done") show(job);
    else {
      current = job.id;
      draw();
      followNext();
    }
    return true;
  }

  async function cancel(job) {
    update(await post(`/v1/jobs/${job.id}/cancel`));
  }

  async function drop(job) {
    const isShown = app.viewer.shown() === job.id;
    if (isShown && !app.viewer.mayLeave()) return;
    await remove(`/v1/jobs/${job.id}`);
    jobs.delete(job.id);
    if (current === job.id) current = null;
    if (isShown) {
      app.viewer.close();
      history.replaceState(null, "", location.pathname);
    }
    draw();
  }

  function update(job) {
    const known = jobs.get(job.id);
    const isStale = known && !isUndone(known) && isUndone(job); // an event was faster than this answer
    if (job.id && !isStale) jobs.set(job.id, job);
    draw();
  }

  /** Take over what the server says of a job; its result is opened, unless a person paints on another one. */
  function take(job) {
    update(job);
    if (job.state === "done" && current === job.id && !app.viewer.isBusy()) show(job, false);
  }

  /** Follow the oldest job that is not done: a browser opens six connections, which uploads and the viewer need too. */
  function followNext() {
    const [next] = [...jobs.values()].filter(isUndone).sort((a, b) => a.created - b.created);
    if (stop || !next) return;
    const end = () => {
      stop?.();
      stop = null;
    };
    stop = follow(
      `/v1/jobs/${next.id}/events`,
      (changed) => {
        if (isUndone(changed)) return take(changed);
        end();
        if (changed.id) take(changed);
        else jobs.delete(next.id);
        return refresh();
      },
      (changed) => !isUndone(changed),
      () => {
        end();
        setTimeout(refresh, RETRY_MS);
      },
    );
  }

  /** Ask how all jobs are that were not done, and follow the next one. */
  async function refresh() {
    const asked = [...jobs.values()].filter(isUndone);
    try {
      const known = new Map((await getJson(`/v1/jobs?limit=${MOST}`)).map((job) => [job.id, job]));
      for (const { id } of asked) {
        if (known.has(id)) take(known.get(id));
        else jobs.delete(id);
      }
      draw();
      followNext();
    } catch {
      setTimeout(refresh, RETRY_MS);
    }
  }

  app.jobs = {
    /** Show a job in the list, and open its result when it is there. */
    follow(job, opens = false) {
      update(job);
      if (!isUndone(job)) return;
      if (opens && (!current || !app.viewer.isBusy())) current = job.id;
      followNext();
    },
  };

  function sort(isByDoubt, button) {
    byDoubt = isByDoubt;
    drawn = DRAWN;
    press([$("by-time"), $("by-doubt")], button);
    draw();
  }

  $("by-time").onclick = (event) => sort(false, event.currentTarget);
  $("by-doubt").onclick = (event) => {
    sort(true, event.currentTarget);
    app.run(async () => {
      for (const job of await getJson(`/v1/jobs?sort=doubt&limit=${MOST}`)) jobs.set(job.id, job); // older ones, too
      draw();
    });
  };
  $("more-jobs").onclick = () => {
    drawn = Infinity;
    draw();
  };
  $("copy-link").hidden = !navigator.clipboard; // over plain http to another machine: the address bar has it
  $("copy-link").onclick = () =>
    app.run(async () => {
      await navigator.clipboard.writeText(new URL(addressOf(app.viewer.shown()), location.href).href);
      $("copied").textContent = "Copied.";
    });
  window.addEventListener("hashchange", () => app.run(openAddressed));
  app.run(async () => {
    const known = await getJson(`/v1/jobs?limit=${MOST}`);
    for (const job of known) jobs.set(job.id, job);
    draw();
    followNext();
    if (await openAddressed()) return;
    const done = known.find((job) => job.state === "done");
    if (done) show(done);
  });
}
