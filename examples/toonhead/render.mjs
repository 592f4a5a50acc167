#!/usr/bin/env node
// Renders toon heads and, on request, their exact part masks. See README.md.

import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

const FORMAT = 1;
const MAX_SEED = 2 ** 32 - 1;
const REPORT_EVERY = 25;
const ATTRIBUTION =
  'ToonHead by Johan Melin, CC BY 4.0, changed: parts, pose, colours and light sampled by a program';

const HELP = `Render toon heads (art: ToonHead by Johan Melin, CC BY 4.0).

  node render.mjs --out DIR --count N --seed S [--size 128] [--masks] [--jobs 1]

  --out DIR    folder to write; gets images/000000.png, ..., and render.json
  --count N    how many pictures
  --seed S     seed of picture 0; picture i uses seed S+i and depends on nothing else
  --size P     side in pixels, 8 to 2048 (default 128)
  --masks      also write masks/000000.png: 8-bit grey, value = class index 0..15
  --jobs J     worker threads, 1 to 64 (default 1)
  --help       this text

A stopped run goes on where it was: files that exist are skipped.`;

class UsageError extends Error {}

function wholeNumber(values, name, low, high) {
  const text = values[name];
  if (text === undefined) throw new UsageError(`--${name} is missing.`);
  if (!/^\d+$/.test(text) || Number(text) < low || Number(text) > high) {
    throw new UsageError(`--${name} must be a whole number from ${low} to ${high}, not "${text}".`);
  }
  return Number(text);
}

function readArguments(argv) {
  let values;
  try {
    values = parseArgs({
      args: argv,
      options: {
        out: { type: 'string' }, count: { type: 'string' }, seed: { type: 'string' },
        size: { type: 'string', default: '128' }, jobs: { type: 'string', default: '1' },
        masks: { type: 'boolean', default: false }, help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    throw new UsageError(error.message);
  }
  if (values.help) return null;
  if (!values.out) throw new UsageError('--out is missing: name the folder to write.');
  const seed = wholeNumber(values, 'seed', 0, MAX_SEED);
  return {
    out: values.out, seed, masks: values.masks,
    count: wholeNumber(values, 'count', 1, MAX_SEED - seed + 1),
    size: wholeNumber(values, 'size', 8, 2048),
    jobs: wholeNumber(values, 'jobs', 1, 64),
  };
}

const fileName = (index) => `${String(index).padStart(6, '0')}.png`;
const picturePath = (job, index) => join(job.out, 'images', fileName(index));
const maskPath = (job, index) => join(job.out, 'masks', fileName(index));

function isDone(job, index) {
  return existsSync(picturePath(job, index)) && (!job.masks || existsSync(maskPath(job, index)));
}

// Files are numbered from 0 whatever the seed, so resuming a folder with another
// seed or size would silently mix two sets.
function claimFolder(job) {
  const path = join(job.out, 'render.json');
  const card = { format: FORMAT, seed: job.seed, size: job.size };
  if (existsSync(path)) return refuseOtherCard(job.out, readCard(path), card);
  mkdirSync(job.out, { recursive: true });
  writeWhole(path, JSON.stringify({ ...card, attribution: ATTRIBUTION }, null, 2) + '\n');
}

function readCard(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new UsageError(`${path} cannot be read (${error.message}): name another --out.`);
  }
}

function refuseOtherCard(folder, old, card) {
  for (const key of Object.keys(card)) {
    if (old[key] !== card[key]) {
      throw new UsageError(
        `${folder} was rendered with ${key} ${old[key]}, not ${card[key]}: ` +
          'name another --out, or delete that folder first.',
      );
    }
  }
}

// A half-written file would count as done after a stop, hence the rename.
function writeWhole(path, data) {
  writeFileSync(`${path}.part`, data);
  renameSync(`${path}.part`, path);
}

async function workerMain(job) {
  const { loadArt } = await import('./src/art.mjs');
  const { sampleHead } = await import('./src/sample.mjs');
  const { paintMask, paintPicture } = await import('./src/paint.mjs');
  const { encodePng } = await import('./src/png.mjs');
  const art = loadArt();
  let fresh = 0;
  for (const index of job.indices) {
    const head = sampleHead(job.seed + index);
    const picture = picturePath(job, index);
    const mask = maskPath(job, index);
    if (!existsSync(picture)) {
      writeWhole(picture, encodePng(paintPicture(art, head, job.size), job.size, 3));
    }
    if (job.masks && !existsSync(mask)) {
      writeWhole(mask, encodePng(paintMask(art, head, job.size), job.size, 1));
    }
    if (++fresh % REPORT_EVERY === 0) parentPort.postMessage(REPORT_EVERY);
  }
  parentPort.postMessage(fresh % REPORT_EVERY);
}

function todo(job) {
  const indices = [];
  for (let index = 0; index < job.count; index++) if (!isDone(job, index)) indices.push(index);
  return indices;
}

function duration(seconds) {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

function progressPrinter(total) {
  const start = Date.now();
  let done = 0;
  let printed = start;
  return (more) => {
    if (!more) return;
    done += more;
    const now = Date.now();
    if (now - printed < 2000 && done < total) return;
    printed = now;
    const rate = done / Math.max(0.001, (now - start) / 1000);
    const left = done < total ? `, ${duration((total - done) / rate)} left` : ', done';
    process.stderr.write(`${done}/${total} pictures, ${rate.toFixed(1)} a second${left}\n`);
  };
}

function runWorker(job, indices, onProgress) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: { ...job, indices } });
    worker.on('message', onProgress);
    worker.on('error', reject);
    worker.on('exit', (code) => (code ? reject(new Error(`A worker stopped with code ${code}.`)) : resolve()));
  });
}

async function main() {
  const job = readArguments(process.argv.slice(2));
  if (!job) return console.log(HELP);
  claimFolder(job);
  mkdirSync(join(job.out, 'images'), { recursive: true });
  if (job.masks) mkdirSync(join(job.out, 'masks'), { recursive: true });
  const indices = todo(job);
  if (indices.length < job.count) {
    process.stderr.write(`${job.count - indices.length} of ${job.count} are there already\n`);
  }
  if (!indices.length) return;
  const onProgress = progressPrinter(indices.length);
  const jobs = Math.min(job.jobs, indices.length);
  await Promise.all(Array.from({ length: jobs }, (_, j) =>
    runWorker(job, indices.filter((_, i) => i % jobs === j), onProgress)));
}

function explain(error) {
  if (error.code === 'ERR_MODULE_NOT_FOUND') {
    return `${error.message}\nRun "npm ci" in the folder of render.mjs first.`;
  }
  if (error.code === 'ENOSPC') {
    return `${error.message}\nFree some space and run the same command: it goes on where it stopped.`;
  }
  if (['EACCES', 'EEXIST', 'ENOTDIR', 'EROFS'].includes(error.code)) {
    return `${error.message}\nName another --out: this one is not a folder you can write to.`;
  }
  if (error instanceof UsageError) return `${error.message}\nTry: node render.mjs --help`;
  return error.message;
}

if (isMainThread) {
  main().catch((error) => {
    console.error(`render: ${explain(error)}`);
    process.exit(error instanceof UsageError ? 2 : 1);
  });
} else {
  await workerMain(workerData);
}
