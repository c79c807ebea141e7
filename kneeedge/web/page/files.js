// What is dropped or chosen: its images by their names, as kneeedge/pixels/listing.py lists them.

const SUFFIXES = /\.(jpe?g|jpe|jfif|png|tiff?|bmp|dib|webp|dcm|dicom)$/i;
const MAYBE_DICOM = /^([^.]*|.*\.(\d+|ima|dc3|dic))$/is;
const CLUTTER = new Set([
  "@eadir", "@recycle", "@recently-snapshot", "@sharebin", "@tmp", "#recycle", "#snapshot",
  "~snapshot", "__macosx", "__pycache__", "$recycle.bin", "recycler", "system volume information",
  "lost+found", "network trash folder", "temporary items", "found.000",
  "thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", ".ipynb_checkpoints",
]);
const HEAD = 512;
const DICOMDIR = "1.2.840.10008.1.3.10";
const BARE = /^([\x02\x08]\0[^]\0([A-Z]{2}|[^]{2}\0\0)|\0[\x02\x08]\0[^][A-Z]{2})/;

/**
 * What a drop holds: {files: [{path, file}], isFolder}; paths are relative to the one folder
 * dropped. Must be called while the event is handled: it holds nothing afterwards.
 */
export function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  return entriesBelow(entries);
}

async function entriesBelow(entries) {
  const isOneFolder = entries.length === 1 && entries[0].isDirectory;
  const files = [];
  for (const entry of entries) {
    const prefix = isOneFolder ? "" : entry.name;
    if (entry.isDirectory) files.push(...(await filesBelow(entry, prefix)));
    else files.push({ path: entry.name, file: await fileOf(entry) });
  }
  return { files, isFolder: entries.some((entry) => entry.isDirectory) };
}

/** What a chooser of a folder holds: the paths are relative to it. */
export function chosenFolder(list) {
  const files = [...list].map((file) => {
    return { path: file.webkitRelativePath.split("/").slice(1).join("/") || file.name, file };
  });
  return { files, isFolder: true };
}

/** The images among files of a folder, by name, and how many of the files are none. */
export async function imagesAmong(files) {
  const images = [];
  let others = 0;
  for (const { path, file } of files) {
    if (path.split("/").some(isHidden)) continue;
    if (await isImage(path.split("/").at(-1), file)) images.push({ path, file });
    else others += 1;
  }
  images.sort((a, b) => byCodePoints(a.path, b.path));
  return { images, others };
}

function isHidden(name) {
  return name.startsWith(".") || CLUTTER.has(name.toLowerCase());
}

async function isImage(name, file) {
  if (SUFFIXES.test(name)) return true;
  const bytes = new Uint8Array(await file.slice(0, HEAD).arrayBuffer());
  const head = String.fromCharCode(...bytes);
  if (head.slice(128, 132) === "DICM") return !head.includes(DICOMDIR);
  return MAYBE_DICOM.test(name) && BARE.test(head);
}

async function filesBelow(folder, prefix) {
  const files = [];
  for (const entry of await listed(folder)) {
    const path = prefix ? `${prefix}/${entry.name}` : entry.name;
    if (isHidden(entry.name)) continue;
    if (entry.isDirectory) files.push(...(await filesBelow(entry, path)));
    else files.push({ path, file: await fileOf(entry) });
  }
  return files;
}

/** All entries of a folder; a browser gives a hundred a call. */
async function listed(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return entries;
    entries.push(...some);
  }
}

function fileOf(entry) {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

/** Python's order of texts, by code points. */
function byCodePoints(a, b) {
  const [left, right] = [[...a], [...b]];
  const i = left.findIndex((character, place) => character !== right[place]);
  if (i === -1) return left.length - right.length;
  return i < right.length ? left[i].codePointAt(0) - right[i].codePointAt(0) : 1;
}
