// Elements of the page. Texts are always set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

/** Make an element: properties, then children, which may be texts. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function replace(element, ...children) {
  element.replaceChildren(...children.filter(Boolean));
}

export function press(group, chosen) {
  for (const button of group) button.setAttribute("aria-pressed", String(button === chosen));
}

/** Show an error as one sentence; null hides it. */
export function say(text) {
  const box = $("message");
  box.hidden = !text;
  box.querySelector("p").textContent = text ?? "";
  if (text) box.scrollIntoView({ block: "nearest" });
}

export function formatTime(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  return whole < 3600 ? `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")} min` : `${(whole / 3600).toFixed(1)} h`;
}

export const formatDice = (value) => (value === null || value === undefined ? "-" : value.toFixed(3));

export const formatNumber = (value, digits = 0) =>
  value === null || value === undefined ? "-" : value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
