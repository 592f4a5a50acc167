// What one seed means: parts, pose, colours and light of one head.

import {
  CLOTHES, COLLAR, CREAM, EYE_DARK, HAIR, LAYERS, LIP, MOUTH_DARK, SKIN, TONGUE,
  paletteOf, variantsOf,
} from './art.mjs';

const PRESENCE = { rearHair: 0.5, beard: 0.3, hair: 0.93 };
const CANVAS = 768;
const SHIFT_X = [-0.04, 0.04];
// Measured on the reference: its heads sit low, so that spiky hair is rarely cut off.
const SHIFT_Y = [-0.015, 0.035];
const NATURAL = 0.35;
const PASTEL = 0.35;

const FIXED_JITTER = [
  [CREAM, 45], [MOUTH_DARK, 45], [TONGUE, 45], [LIP, 45], [EYE_DARK, 80], [COLLAR, 80],
];

// murmur3's finalizer: neighbouring seeds must not give neighbouring streams.
function scramble(seed) {
  let h = seed >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** mulberry32 over the scrambled seed: 32 bits of state, numbers in [0, 1). */
export function randomStream(seed) {
  let state = scramble(seed);
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const between = (random, low, high) => low + (high - low) * random();
const pick = (random, list) => list[Math.floor(random() * list.length)];

const hex = (channels) =>
  '#' + channels
    .map((v) => Math.round(Math.min(255, Math.max(0, v))).toString(16).padStart(2, '0'))
    .join('');

const channelsOf = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

function fromHsl(hue, saturation, lightness) {
  const reach = saturation * Math.min(lightness, 1 - lightness);
  const channel = (n) => {
    const k = (n + hue * 12) % 12;
    return 255 * (lightness - reach * Math.max(-1, Math.min(k - 3, 9 - k, 1)));
  };
  return hex([channel(0), channel(8), channel(4)]);
}

function anyHue(random, [s0, s1], [l0, l1]) {
  return fromHsl(random(), between(random, s0, s1), between(random, l0, l1));
}

function blended(random, palette) {
  const a = channelsOf(pick(random, palette));
  const b = channelsOf(pick(random, palette));
  const t = random();
  return hex(a.map((v, i) => v + (b[i] - v) * t));
}

function chosenColours(random) {
  if (random() < NATURAL) {
    return {
      [SKIN]: blended(random, paletteOf('skin')),
      [HAIR]: blended(random, paletteOf('hair')),
      [CLOTHES]: blended(random, paletteOf('clothes')),
    };
  }
  return {
    [SKIN]: anyHue(random, [0.15, 0.7], [0.3, 0.85]),
    [HAIR]: anyHue(random, [0.15, 0.8], [0.12, 0.75]),
    [CLOTHES]: anyHue(random, [0.1, 0.9], [0.12, 0.85]),
  };
}

// Fixed colours would give the part away, so each picture gets its own.
function jitteredColours(random) {
  const colours = {};
  for (const [colour, reach] of FIXED_JITTER) {
    colours[colour] = hex(channelsOf(colour).map((v) => v + between(random, -reach, reach)));
  }
  return colours;
}

function backgroundColour(random) {
  if (random() < PASTEL) return anyHue(random, [0.3, 0.8], [0.8, 0.92]);
  return anyHue(random, [0.1, 0.8], [0.25, 0.92]);
}

function chosenParts(random) {
  const parts = {};
  for (const layer of LAYERS) {
    const variant = pick(random, variantsOf(layer));
    if (random() < (PRESENCE[layer] ?? 1)) parts[layer] = variant;
  }
  return parts;
}

function poseTransform(random) {
  const centre = CANVAS / 2;
  const turn = between(random, -8, 8);
  const scale = between(random, 0.92, 1.12);
  const dx = between(random, ...SHIFT_X) * CANVAS;
  const dy = between(random, ...SHIFT_Y) * CANVAS;
  const mirror = random() < 0.5 ? -1 : 1;
  return `translate(${(centre + dx).toFixed(3)} ${(centre + dy).toFixed(3)}) ` +
    `rotate(${turn.toFixed(4)}) scale(${(mirror * scale).toFixed(5)} ${scale.toFixed(5)}) ` +
    `translate(${-centre} ${-centre})`;
}

function chosenLight(random) {
  return {
    cast: [0, 1, 2].map(() => between(random, 0.8, 1.2)),
    direction: between(random, 0, 2 * Math.PI),
    depth: between(random, 0, 0.35),
    gamma: between(random, 0.8, 1.3),
  };
}

/** Everything that seed decides. The order of the draws is part of the format. */
export function sampleHead(seed) {
  const random = randomStream(seed);
  return {
    parts: chosenParts(random),
    transform: poseTransform(random),
    colours: { ...chosenColours(random), ...jitteredColours(random) },
    background: backgroundColour(random),
    light: chosenLight(random),
  };
}
