// The artist's layers, read once from the installed package through DiceBear's
// public API and compiled into two templates each: one to paint, one to label.

import { createAvatar } from '@dicebear/core';
import * as style from '@dicebear/toon-head';

export const CLASSES = [
  'background', 'rear_hair', 'neck', 'face', 'ear', 'nose', 'clothes', 'mouth',
  'teeth', 'tongue', 'beard', 'sclera', 'iris', 'eyelid', 'eyebrow', 'hair',
];

// Back to front, the order in which the style stacks them.
export const LAYERS = [
  'rearHair', 'body', 'head', 'clothes', 'mouth', 'beard', 'eyes', 'eyebrows', 'hair',
];

// The style wants hex colours, so the three it lets us choose travel through it
// as hex values that no shape of the art uses.
export const SKIN = '#000001';
export const HAIR = '#000002';
export const CLOTHES = '#000003';

// Colours the artist wrote into the shapes.
export const CREAM = '#f6f1e4';
export const MOUTH_DARK = '#611519';
export const TONGUE = '#e0564b';
export const LIP = '#3f2626';
export const EYE_DARK = '#4b2422';
export const COLLAR = '#cbecf7';

const SHADE = 'black';

const classIndex = (name) => CLASSES.indexOf(name);

// layer -> fill -> class. An iris and an eyelid share one fill; classOf tells
// them apart by their element.
const FILL_CLASS = {
  rearHair: { [HAIR]: 'rear_hair' },
  body: { [SKIN]: 'neck' },
  head: { [SKIN]: 'face' },
  clothes: { [CLOTHES]: 'clothes', [COLLAR]: 'clothes' },
  mouth: { [MOUTH_DARK]: 'mouth', [LIP]: 'mouth', [CREAM]: 'teeth', [TONGUE]: 'tongue' },
  beard: { [HAIR]: 'beard' },
  eyes: { [CREAM]: 'sclera', [EYE_DARK]: 'eyelid' },
  eyebrows: { [HAIR]: 'eyebrow' },
  hair: { [HAIR]: 'hair' },
};

const SHAPES = new Set(['path', 'circle', 'ellipse']);

function artChanged(what) {
  return new Error(
    `${what}. The installed @dicebear/toon-head is not the version this renderer was ` +
      'written for: run "npm ci" in this folder to get the pinned one.',
  );
}

/** The variants of a layer, as the style's schema names them. */
export function variantsOf(layer) {
  const names = style.schema.properties[layer]?.default;
  if (!names?.length) throw artChanged(`The style has no layer "${layer}"`);
  return names;
}

/** The style's own colours for "skin", "hair" or "clothes", as "#rrggbb". */
export function paletteOf(what) {
  return style.schema.properties[`${what}Color`].default.map((hex) => `#${hex}`);
}

// Asking the style rather than its components keeps what it does around them,
// such as moving the rear hair 10 units down.
function layerSvg(layer, variant) {
  const options = {
    seed: 'layer',
    // The clip to the canvas would move and turn with the head.
    clip: false,
    skinColor: [SKIN.slice(1)],
    hairColor: [HAIR.slice(1)],
    clothesColor: [CLOTHES.slice(1)],
    rearHairProbability: 100,
    beardProbability: 100,
    hairProbability: 100,
  };
  // A layer with no variant to choose from is left out, so one layer comes alone.
  for (const other of LAYERS) options[other] = other === layer ? [variant] : [];
  return createAvatar(style, options)
    .toString()
    .replace(/^<svg[^>]*>/, '')
    .replace(/<metadata[\s\S]*?<\/metadata>/, '')
    .replace(/<\/svg>$/, '');
}

function attributesOf(text) {
  const found = {};
  for (const [, name, value] of text.matchAll(/([\w:-]+)="([^"]*)"/g)) found[name] = value;
  return found;
}

function tagText(name, attributes, selfClosing = false) {
  const pairs = Object.entries(attributes).map(([key, value]) => ` ${key}="${value}"`);
  return `<${name}${pairs.join('')}${selfClosing ? '/' : ''}>`;
}

function classOf(layer, element, fill) {
  if (layer === 'eyes' && element === 'circle' && fill === EYE_DARK) return classIndex('iris');
  const name = FILL_CLASS[layer][fill];
  if (!name) throw artChanged(`Layer "${layer}" has a shape filled ${fill}, which has no class`);
  return classIndex(name);
}

const codeColour = (index) => `#${index.toString(16).padStart(2, '0')}0000`;

function bareShape(element, attributes, fill) {
  const kept = { ...attributes, fill };
  for (const name of ['stroke', 'stroke-width', 'fill-opacity']) delete kept[name];
  return tagText(element, kept, true);
}

// Both ears and the nose are one shading path; only its subpaths tell them apart.
function earsAndNose(attributes) {
  const cut = attributes.d.lastIndexOf('M');
  if (cut <= 0) throw artChanged('The shading of the head has no separate nose');
  const part = (d, name) =>
    bareShape('path', { ...attributes, d }, codeColour(classIndex(name)));
  return part(attributes.d.slice(0, cut), 'ear') + part(attributes.d.slice(cut), 'nose');
}

function labelShape(layer, element, attributes, fill) {
  if (fill !== SHADE) return bareShape(element, attributes, codeColour(classOf(layer, element, fill)));
  return layer === 'head' ? earsAndNose(attributes) : '';
}

function checkElement(layer, element) {
  if (!SHAPES.has(element) && element !== 'g' && element !== 'mask') {
    throw artChanged(`Layer "${layer}" holds an unknown element <${element}>`);
  }
}

function* tagsOf(svg) {
  const tag = /<(\/?)([a-zA-Z]+)((?:\s+[\w:-]+="[^"]*")*)\s*\/?>/g;
  for (const [, slash, element, rest] of svg.matchAll(tag)) {
    const attributes = attributesOf(rest);
    if (attributes.fill) attributes.fill = attributes.fill.toLowerCase();
    yield { closes: slash === '/', element, attributes };
  }
}

/**
 * Compile one variant of one layer.
 * `picture` keeps the art with its colours in lower case, ready for recolour();
 * `mask` holds the same shapes in code colours (red = class), without strokes
 * and shading.
 */
function compile(layer, variant) {
  const made = { picture: '', mask: '' };
  const add = (picture, mask = picture) => {
    made.picture += picture;
    made.mask += mask;
  };
  const open = [];
  for (const { closes, element, attributes } of tagsOf(layerSvg(layer, variant))) {
    checkElement(layer, element);
    if (closes) {
      open.pop();
      add(`</${element}>`);
    } else if (!SHAPES.has(element)) {
      open.push({ element, fill: attributes.fill });
      add(tagText(element, attributes));
    } else if (open.some((outer) => outer.element === 'mask')) {
      // White shows everything whether a renderer reads alpha or luminance.
      add(tagText(element, { ...attributes, fill: 'white' }, true));
    } else {
      const fill = attributes.fill ?? open.findLast((outer) => outer.fill)?.fill;
      add(tagText(element, attributes, true), labelShape(layer, element, attributes, fill));
    }
  }
  if (!made.mask) throw artChanged(`Layer "${layer}" came out empty for "${variant}"`);
  return made;
}

/** Every variant of every layer: art[layer][variant] = { picture, mask }. */
export function loadArt() {
  const art = {};
  for (const layer of LAYERS) {
    art[layer] = {};
    for (const variant of variantsOf(layer)) art[layer][variant] = compile(layer, variant);
  }
  return art;
}

/** Replace the fills of a picture template by those of one head. */
export function recolour(template, colours) {
  return template.replace(/fill="(#[0-9a-f]{6})"/g, (_, fill) => {
    const colour = colours[fill];
    if (!colour) throw artChanged(`The art uses the colour ${fill}, which nothing replaces`);
    return `fill="${colour}"`;
  });
}
