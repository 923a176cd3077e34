// What is looked at stands in the fragment of the address, so that it can be shared and the back button works.

const FIELDS = ["q", "like", "where", "label", "least", "most", "archive", "mode", "top", "all", "anyway", "scene"];
const VIEWS = ["ask", "adapters"];

/** The part of the page and the search that the address names. */
export function readFragment() {
  const text = location.hash.slice(1);
  if (VIEWS.includes(text)) return { view: text, search: {} };
  const given = new URLSearchParams(text);
  const search = {};
  for (const name of FIELDS) if (given.get(name)) search[name] = given.get(name);
  return { view: "search", search };
}

/** A search as a fragment, fields in their order; nothing of those that are empty. */
export function fragmentOf(search) {
  const given = new URLSearchParams();
  for (const name of FIELDS) if (search[name]) given.set(name, search[name]);
  return `#${given}`;
}

/** The same search without the scene that is open. */
export function withoutScene(search) {
  const { scene, ...rest } = search;
  return rest;
}

/** The condition of a search: that of its field, and those of the simple ones. */
export function conditionOf(search) {
  const parts = [];
  if (search.where) parts.push(search.label || search.least || search.most ? `(${search.where})` : search.where);
  if (search.label) parts.push(`label = '${search.label.replaceAll("'", "''")}'`);
  if (search.least) parts.push(`duration >= ${Number(search.least)}`);
  if (search.most) parts.push(`duration <= ${Number(search.most)}`);
  return parts.join(" and ");
}
