// The status picture, as it comes by server-sent events. What comes from outside is only ever put in as text.
"use strict";

const element = (id) => document.getElementById(id);
let at = 0;

function fill(table, titles, rows) {
  const head = document.createElement("tr");
  for (const title of titles) {
    const cell = document.createElement("th");
    cell.textContent = title;
    head.append(cell);
  }
  table.replaceChildren(...(rows.length ? [head] : []), ...rows.map((row) => {
    const line = document.createElement("tr");
    for (const value of row) {
      const cell = document.createElement("td");
      cell.textContent = value;
      if (/^[A-Z_]+$/.test(value)) cell.className = value;
      line.append(cell);
    }
    return line;
  }));
}

function figures(list, pairs) {
  element(list).replaceChildren(...pairs.filter(([, value]) => value).flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const told = document.createElement("dd");
    term.textContent = name;
    told.textContent = value;
    return [term, told];
  }));
}

function span(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} m`;
}

function showAge() {
  const age = Date.now() / 1000 - at;
  element("age").textContent = at ? `as of ${span(Math.max(0, age))} ago` : "nothing has been heard yet";
  element("age").className = age > 10 ? "old" : "";
}

function alarms(found) {
  element("alarms").replaceChildren(...found.map((alarm) => {
    const line = document.createElement("li");
    line.textContent = `${alarm.text} (${alarm.mend})`;
    line.className = alarm.level;
    return line;
  }));
}

function progress(job) {
  const done = job.progress;
  if (!done || !done.steps) return job.reason;
  const loss = done.loss === null ? "" : `, loss ${done.loss.toFixed(3)}`;
  const left = done.seconds_left === null ? "" : `, ${span(done.seconds_left)} left`;
  return `${done.step} of ${done.steps} ${done.unit}${loss}${left}`;
}

// Of so many checkpoints the scores are shown; one with many suites takes several pages.
const SHOWN = 10;
const PAGES = 4;
const SHADES = 4;
let scored = "";

function learned(learning, now) {
  const { champion, judgement, levels } = learning;
  const told = Boolean(champion || learning.newest || judgement);
  element("learning").hidden = !told;
  if (!told) return;
  const ago = (moment) => `${span(Math.max(0, now - moment))} ago`;
  figures("learned", [
    ["champion", champion && `${champion.checkpoint}, ${champion.how.replace("_", " ")} ${ago(champion.at)}`],
    ["judged last", judgement && `${judgement.checkpoint}, ${ago(judgement.at)}: ${judgement.outcome}` +
      (judgement.regressed ? ", significantly worse than the champion" : "")],
    ...(judgement ? judgement.reasons : []).map((reason, at) => [at ? "" : "because", reason]),
    ["proposed", learning.proposal && `${learning.proposal}: trainq promote makes it champion`],
    ["levels", levels.map((each) => `${each.generator} ${each.level}`).join(", ")],
  ]);
  const newest = JSON.stringify([learning.evaluated_at, champion && champion.checkpoint]);
  if (newest === scored) return;
  scored = newest;
  matrix(champion ? champion.checkpoint : "").catch(() => { scored = ""; });
}

async function scoresOf(query) {
  const answer = await fetch(`/api/v1/scores?${new URLSearchParams(query)}`);
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.json();
}

// The scores of the newest checkpoints, and the champion's: those that can be compared with the suite's newest.
async function matrix(champion) {
  const found = [];
  let after = null;
  const names = () => [...new Set(found.map((score) => score.checkpoint))];
  for (let page = 0; page < PAGES && names().length <= SHOWN; page++) {
    const answer = await scoresOf({ limit: 250, ...(after && { after }) });
    found.push(...answer.scores);
    after = answer.next_after;
    if (!after) break;
  }
  const shown = names().slice(0, SHOWN);
  if (champion && !shown.includes(champion)) {
    found.push(...(await scoresOf({ limit: 250, checkpoint: champion })).scores);
    shown.push(champion);
  }
  const digests = new Map();
  for (const score of found) if (!digests.has(score.suite)) digests.set(score.suite, score.suite_digest);
  draw(shown.sort(), champion, found.filter((score) => shown.includes(score.checkpoint) &&
    digests.get(score.suite) === score.suite_digest));
}

function draw(checkpoints, champion, scores) {
  const cell = (kind, text, about = "") => {
    const made = document.createElement(kind);
    made.textContent = text;
    made.title = about;
    return made;
  };
  const rows = (suites) => {
    const head = document.createElement("tr");
    head.append(cell("th", "suite"), ...checkpoints.map((name) =>
      cell("th", name.split("-")[0] + (name === champion ? " champion" : ""), name)));
    return [head, ...suites.map(line)];
  };
  const line = (suite) => {
    const of = new Map(scores.filter((score) => score.suite === suite).map((score) => [score.checkpoint, score]));
    const [first] = of.values();
    const worth = (score) => (first.kind === "loss" ? -score.mean : score.mean);
    const all = [...of.values()].map(worth);
    const [least, most] = [Math.min(...all), Math.max(...all)];
    const made = document.createElement("tr");
    made.append(cell("th", suite), ...checkpoints.map((name) => {
      const score = of.get(name);
      if (!score) return cell("td", "");
      const text = first.kind === "loss" ? (value) => value.toFixed(3) : (value) => `${(100 * value).toFixed(1)} %`;
      const best = most > least && worth(score) === most;
      const shown = cell("td", `${text(score.mean)}${best ? " *" : ""}`,
        `${name} on ${suite}: between ${text(score.low)} and ${text(score.high)}, of ${score.n} rows`
        + (score.truncated ? `; ${score.truncated} answers were truncated` : "")
        + (score.left_out ? `; ${score.left_out} rows did not fit` : ""));
      if (most > least) shown.className = `shade${Math.floor(SHADES * (worth(score) - least) / (most - least))}`;
      return shown;
    }));
    return made;
  };
  const suites = [...new Set(scores.map((score) => score.suite))].sort(
    (one, other) => one.localeCompare(other, "en", { numeric: true }));
  const ofFiles = suites.filter((suite) => suite.startsWith("job-train-"));
  element("scores").replaceChildren(...rows(suites.filter((suite) => !ofFiles.includes(suite))));
  element("file_scores").replaceChildren(...rows(ofFiles));
  element("files").hidden = !ofFiles.length;
}

function show(picture) {
  if (!picture) return;
  at = picture.at;
  element("why").textContent = picture.why;
  showAge();
  alarms(picture.alarms);
  const counts = Object.entries(picture.counts.train ?? {}).map(([state, many]) => `${many} ${state}`);
  const disk = picture.disk;
  figures("figures", [
    ["jobs", counts.join(", ")],
    ["model", picture.checkpoint && `${picture.checkpoint}, step ${picture.step}`],
    ["marked", picture.marks.join(", ")],
    ["disk", disk && `${(disk.free_bytes / 2 ** 30).toFixed(1)} GiB free`],
    ["journal", `event ${picture.seq}`],
  ]);
  fill(element("running"), ["job", "name", ""], picture.running.map((job) => [job.id, job.name, progress(job)]));
  fill(element("waiting"), ["job", "name", "priority", ""],
    picture.waiting.slice(0, 20).map((job) => [job.id, job.name, job.priority, job.why]));
  learned(picture.learning, picture.at);
  fill(element("services"), ["service", "state", "pid", "up", "heard", ""], picture.services.map((service) => [
    service.name, service.state, String(service.pid || ""), span(service.uptime_seconds),
    service.age_seconds === null ? "" : `${span(service.age_seconds)} ago`, service.detail]));
}

function listen() {
  const source = new EventSource("/api/v1/status/stream");
  source.onmessage = (message) => show(JSON.parse(message.data));
  source.onerror = () => {
    // A browser comes back by itself but for an answer that is none: too many streams, say.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  };
}

setInterval(showAge, 1000);
listen();
