#!/usr/bin/env node
// Renders heads of DiceBear's "personas" with a mask of seven parts. See README.md.

import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createAvatar } from '@dicebear/core';
import * as style from '@dicebear/personas';
import { Resvg } from '@resvg/resvg-js';
import { encodePng } from '../toonhead/src/png.mjs';

const HELP = `Render heads (art: Personas by Draftbit, CC BY 4.0).

  node render.mjs --out DIR --count N --seed S [--size 128] --masks

Writes images/000000.png and masks/000000.png, ...: 8-bit grey, 0 background, 1 skin, 2 eyes,
3 hair, 4 body, 5 mouth, 6 nose, 7 beard. A stopped run goes on where it was.`;

// In the order in which the style stacks them, each above those before it.
const LAYERS = ['eyes', 'hair', 'body', 'mouth', 'nose', 'facialHair'];
const CANVAS = 64;
const PRESENCE = { facialHair: 0.3 };
const CHANGED = 24; // sum of a pixel's differences from which a layer has painted it

function randomStream(seed) {
  let state = Math.imul(seed ^ (seed >>> 16), 0x85ebca6b) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const between = (random, low, high) => low + (high - low) * random();
const pick = (random, list) => list[Math.floor(random() * list.length)];

function anyColour(random) {
  const channel = () => Math.floor(between(random, 30, 235)).toString(16).padStart(2, '0');
  return channel() + channel() + channel();
}

/** Everything that a seed decides. */
function sampled(seed) {
  const random = randomStream(seed);
  const parts = {};
  for (const layer of LAYERS) {
    const variant = pick(random, style.schema.properties[layer].default);
    if (random() < (PRESENCE[layer] ?? 1)) parts[layer] = variant;
  }
  const mirror = random() < 0.5 ? -1 : 1;
  const scale = between(random, 0.92, 1.2);
  const [dx, dy] = [between(random, -3, 3), between(random, -3, 3)];
  const half = CANVAS / 2;
  return {
    parts,
    skin: anyColour(random),
    hair: anyColour(random),
    clothing: anyColour(random),
    background: anyColour(random),
    transform:
      `translate(${(half + dx).toFixed(3)} ${(half + dy).toFixed(3)}) ` +
      `rotate(${between(random, -8, 8).toFixed(3)}) ` +
      `scale(${(mirror * scale).toFixed(4)} ${scale.toFixed(4)}) translate(${-half} ${-half})`,
  };
}

/** The first `count` layers of a head over its background, as SVG. */
function document(head, count) {
  const options = {
    seed: 'head',
    skinColor: [head.skin],
    hairColor: [head.hair],
    clothingColor: [head.clothing],
    facialHairProbability: 100,
  };
  // A layer with no variant to choose from is left out.
  LAYERS.forEach((layer, n) => {
    options[layer] = n < count && head.parts[layer] ? [head.parts[layer]] : [];
  });
  const inner = createAvatar(style, options)
    .toString()
    .replace(/^<svg[^>]*>/, '')
    .replace(/<metadata[\s\S]*?<\/metadata>/, '')
    .replace(/<\/svg>$/, '');
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${CANVAS} ${CANVAS}" fill="none">` +
    `<rect width="${CANVAS}" height="${CANVAS}" fill="#${head.background}"/>` +
    `<g transform="${head.transform}">${inner}</g></svg>`
  );
}

function rasterised(svg, size) {
  const options = { fitTo: { mode: 'width', value: size }, font: { loadSystemFonts: false } };
  return new Resvg(svg, options).render().pixels;
}

/** The picture [size * size * 3] and the mask [size * size]: of each pixel, the last layer that
 * changed it. */
function painted(head, size) {
  const mask = Buffer.alloc(size * size);
  const empty = document(head, 0).replace(/<g transform[\s\S]*<\/g>/, '');
  let before = rasterised(empty, size);
  for (let count = 0; count <= LAYERS.length; count++) {
    const now = rasterised(document(head, count), size);
    for (let i = 0; i < mask.length; i++) {
      let difference = 0;
      for (let c = 4 * i; c < 4 * i + 3; c++) difference += Math.abs(now[c] - before[c]);
      if (difference > CHANGED) mask[i] = count + 1;
    }
    before = now;
  }
  const picture = Buffer.alloc(size * size * 3);
  for (let i = 0; i < mask.length; i++) {
    for (let c = 0; c < 3; c++) picture[3 * i + c] = before[4 * i + c];
  }
  return { picture, mask };
}

function writeWhole(path, data) {
  writeFileSync(`${path}.part`, data);
  renameSync(`${path}.part`, path);
}

// A folder holds one run of seeds: another would be mixed in silently.
function claimFolder(out, card) {
  const path = join(out, 'render.json');
  const told = JSON.stringify(card);
  if (existsSync(path) && readFileSync(path, 'utf8') !== told) {
    throw new Error(`${out} was rendered with another seed or size: name another --out.`);
  }
  for (const folder of ['images', 'masks']) mkdirSync(join(out, folder), { recursive: true });
  writeWhole(path, told);
}

function wholeNumber(text, name) {
  if (!/^\d+$/.test(text ?? '')) throw new Error(`--${name} must be a whole number, not "${text}".`);
  return Number(text);
}

function main() {
  const string = { type: 'string' };
  const { values } = parseArgs({
    options: {
      out: string, count: string, seed: string, size: { ...string, default: '128' },
      masks: { type: 'boolean' }, help: { type: 'boolean' },
    },
  });
  if (values.help) return console.log(HELP);
  if (!values.out) throw new Error('--out is missing: name the folder to write.');
  const [count, seed, size] = ['count', 'seed', 'size'].map((n) => wholeNumber(values[n], n));
  claimFolder(values.out, { seed, size, attribution: 'Personas by Draftbit, CC BY 4.0, changed' });
  for (let n = 0; n < count; n++) {
    const name = `${String(n).padStart(6, '0')}.png`;
    const maskPath = join(values.out, 'masks', name);
    if (existsSync(maskPath)) continue;
    const { picture, mask } = painted(sampled((seed + n) >>> 0), size);
    writeWhole(join(values.out, 'images', name), encodePng(picture, size, 3));
    writeWhole(maskPath, encodePng(mask, size, 1));
  }
}

try {
  main();
} catch (error) {
  console.error(`render.mjs: ${error.message}`);
  process.exitCode = 2;
}
