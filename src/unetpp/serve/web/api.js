// The API of this server.

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Problem(0, "The server does not answer. Check that `unetpp serve` runs, and try again.");
  }
  if (answer.ok) return answer;
  let detail = `The server answered ${answer.status}.`;
  try {
    detail = (await answer.json()).detail;
  } catch {
    // no problem details: from something between the server and this page
  }
  throw new Problem(answer.status, detail);
}

export const getJson = async (path) => (await request(path)).json();
export const getBytes = async (path) => (await request(path)).arrayBuffer();
export const remove = (path) => request(path, { method: "DELETE" });

export async function post(path, content = undefined) {
  const body = content === undefined ? {} : { body: JSON.stringify(content), headers: { "Content-Type": "application/json" } };
  const answer = await request(path, { method: "POST", ...body });
  return answer.status === 204 ? null : answer.json();
}

export async function postForm(path, form) {
  return (await request(path, { method: "POST", body: form })).json();
}

/** Follow events until `isOver`, or until the server refuses them (`onGone`); returns a function that stops. */
export function follow(path, onChange, isOver = () => false, onGone = () => {}) {
  const events = new EventSource(path);
  events.onmessage = (event) => {
    const value = JSON.parse(event.data);
    if (isOver(value)) events.close();
    onChange(value);
  };
  events.onerror = () => {
    if (events.readyState === EventSource.CLOSED) onGone(); // else the browser tries again by itself
  };
  return () => events.close();
}
