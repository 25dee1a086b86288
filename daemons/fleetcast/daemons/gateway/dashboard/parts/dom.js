// A page as a tree of plain objects, and the smallest changes that make the document look like it. Texts become text
// nodes and nothing else: there is no way from here to markup.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "line", "rect", "circle", "text", "title", "polyline", "defs", "marker"]);
const PROPERTIES = new Set(["value", "checked", "disabled", "open", "selected", "hidden"]);

/** One element. `attrs`: attributes; `on*` are listeners, `style` an object, `key` names it among its siblings. */
export function h(tag, attrs, ...children) {
  const given = attrs || {};
  return { tag, attrs: given, key: given.key, children: children.flat(3).filter((child) => child != null && child !== false) };
}

/** An element that is made anew only when `sig` is another one than before. */
export function lazy(key, sig, build) {
  return { key, sig, build };
}

/** Make the children of `parent` look like `nodes`. */
export function patch(parent, nodes) {
  const wanted = [nodes].flat(3).filter((node) => node != null && node !== false);
  const keyed = new Map();
  for (const child of parent.childNodes) if (child.fcKey !== undefined) keyed.set(child.fcKey, child);
  let place = parent.firstChild;
  for (const node of wanted) {
    const found = match(node, place, keyed, parent);
    const made = found ? update(found, node, parent) : create(node, parent);
    if (made === place) {
      place = place.nextSibling;
    } else {
      parent.insertBefore(made, place);
      if (found && found !== made && found.parentNode === parent) {
        if (found === place) place = found.nextSibling;
        found.remove();
      }
    }
    if (node.key !== undefined) keyed.delete(node.key);
  }
  while (place) {
    const next = place.nextSibling;
    if (place.fcSig !== undefined) keep(parent, place);
    place.remove();
    place = next;
  }
}

/** How many elements that were dear to build a parent keeps after they went: whoever searches has them back soon. */
const KEPT = 1000;

function keep(parent, child) {
  parent.fcKept ??= new Map();
  if (parent.fcKept.size < KEPT) parent.fcKept.set(child.fcKey, child);
}

function kept(parent, key) {
  const found = parent.fcKept?.get(key);
  parent.fcKept?.delete(key);
  return found;
}

function match(node, place, keyed, parent) {
  if (typeof node === "object" && node.key !== undefined) return keyed.get(node.key) ?? (node.build ? kept(parent, node.key) : undefined);
  if (!place || place.fcKey !== undefined) return undefined;
  if (typeof node !== "object") return place.nodeType === Node.TEXT_NODE ? place : undefined;
  return place.nodeType === Node.ELEMENT_NODE && place.localName === node.tag ? place : undefined;
}

function create(node, parent) {
  if (typeof node !== "object") return document.createTextNode(String(node));
  if (node.build) {
    const made = create(node.build(), parent);
    made.fcKey = node.key;
    made.fcSig = node.sig;
    return made;
  }
  const inSvg = SVG_TAGS.has(node.tag) && (node.tag !== "title" || parent?.namespaceURI === SVG);
  const made = inSvg ? document.createElementNS(SVG, node.tag) : document.createElement(node.tag);
  if (node.key !== undefined) made.fcKey = node.key;
  setAll(made, {}, node.attrs);
  made.fcAttrs = node.attrs;
  patch(made, node.children);
  if (node.attrs.value !== undefined && "value" in made) made.value = node.attrs.value;
  return made;
}

function update(there, node, parent) {
  if (typeof node !== "object") {
    const text = String(node);
    if (there.data !== text) there.data = text;
    return there;
  }
  if (node.build) {
    if (there.fcSig === node.sig) return there;
    const built = node.build();
    const made = there.localName === built.tag ? update(there, built, parent) : create(built, parent);
    made.fcKey = node.key;
    made.fcSig = node.sig;
    return made;
  }
  if (there.localName !== node.tag) return create(node, parent);
  setAll(there, there.fcAttrs || {}, node.attrs);
  there.fcAttrs = node.attrs;
  patch(there, node.children);
  return there;
}

function setAll(element, before, after) {
  for (const name of Object.keys(before)) if (!(name in after)) set(element, name, undefined, before[name]);
  for (const [name, value] of Object.entries(after)) if (value !== before[name]) set(element, name, value, before[name]);
}

function set(element, name, value, before) {
  if (name === "key") return;
  if (name.startsWith("on")) {
    listen(element, name.slice(2), value);
  } else if (name === "style") {
    for (const each of Object.keys(before || {})) if (!value || !(each in value)) element.style.removeProperty(each);
    for (const [each, to] of Object.entries(value || {})) element.style.setProperty(each, String(to));
  } else if (PROPERTIES.has(name)) {
    // What somebody is writing is not taken from under their hands.
    if (!(name === "value" && element === document.activeElement)) element[name] = value ?? (name === "value" ? "" : false);
  } else if (value === undefined || value === null || value === false) {
    element.removeAttribute(name);
  } else {
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

function listen(element, type, handler) {
  element.fcOn ??= {};
  if (!(type in element.fcOn)) element.addEventListener(type, (event) => element.fcOn[type]?.(event));
  element.fcOn[type] = handler;
}
