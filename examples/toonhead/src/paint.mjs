// From a sampled head to pixels: the picture (RGB) and its mask (class indices).

import { Resvg } from '@resvg/resvg-js';
import { CLASSES, LAYERS, recolour } from './art.mjs';

const CANVAS = 768;
const LUT_STEPS = 4095;

function document(content, background, crisp) {
  const edges = crisp ? ' shape-rendering="crispEdges"' : '';
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${CANVAS} ${CANVAS}" fill="none"${edges}>` +
    `<rect width="${CANVAS}" height="${CANVAS}" fill="${background}"/>${content}</svg>`;
}

function stack(art, head, kind) {
  let content = '';
  for (const layer of LAYERS) {
    const variant = head.parts[layer];
    if (variant) content += art[layer][variant][kind];
  }
  return `<g transform="${head.transform}">${content}</g>`;
}

function rasterise(svg, width) {
  const resvg = new Resvg(svg, {
    fitTo: { mode: 'width', value: width },
    // Looking for fonts costs more than the whole picture, and there is no text.
    font: { loadSystemFonts: false },
  });
  return resvg.render().pixels;
}

function gammaTable(gamma) {
  const table = new Uint8Array(LUT_STEPS + 1);
  for (let i = 0; i <= LUT_STEPS; i++) {
    table[i] = Math.round(255 * Math.pow(i / LUT_STEPS, gamma));
  }
  return table;
}

// The light falls on the double-size rendering, before the averaging: a border of
// an over-exposed shape then stays as soft as any other.
function lit(pixels, side, light) {
  const out = new Uint8Array(side * side * 3);
  const table = gammaTable(light.gamma);
  const gain = light.cast.map((c) => (c * LUT_STEPS) / 255);
  const slopeX = Math.cos(light.direction) * light.depth;
  const slopeY = Math.sin(light.direction) * light.depth;
  let to = 0;
  let from = 0;
  for (let y = 0; y < side; y++) {
    const rowShade = 1 + slopeY * ((2 * y + 1) / side - 1);
    for (let x = 0; x < side; x++, from += 4) {
      const shade = rowShade + slopeX * ((2 * x + 1) / side - 1);
      for (let c = 0; c < 3; c++) {
        const value = Math.min(LUT_STEPS, pixels[from + c] * gain[c] * shade);
        out[to++] = table[Math.round(value)];
      }
    }
  }
  return out;
}

function halved(pixels, size) {
  const out = Buffer.allocUnsafe(size * size * 3);
  const row = size * 6;
  let to = 0;
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const p = y * 2 * row + x * 6;
      for (let c = p; c < p + 3; c++) {
        out[to++] = (pixels[c] + pixels[c + 3] + pixels[c + row] + pixels[c + row + 3] + 2) >> 2;
      }
    }
  }
  return out;
}

/** RGB bytes of one head, size x size x 3. */
export function paintPicture(art, head, size) {
  const svg = document(recolour(stack(art, head, 'picture'), head.colours), head.background, false);
  return halved(lit(rasterise(svg, size * 2), size * 2, head.light), size);
}

/** Class indices of the same head, size x size. */
export function paintMask(art, head, size) {
  const pixels = rasterise(document(stack(art, head, 'mask'), '#000000', true), size);
  const out = Buffer.allocUnsafe(size * size);
  for (let i = 0; i < out.length; i++) {
    const p = i * 4;
    if (pixels[p] >= CLASSES.length || pixels[p + 1] || pixels[p + 2]) {
      // A blended code would be a silently wrong label.
      throw new Error('The mask has blended edges: run "npm ci" to get the pinned @resvg/resvg-js.');
    }
    out[i] = pixels[p];
  }
  return out;
}
