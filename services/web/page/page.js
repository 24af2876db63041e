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

function figures(pairs) {
  element("figures").replaceChildren(...pairs.filter(([, value]) => value).flatMap(([name, value]) => {
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

function show(picture) {
  if (!picture) return;
  at = picture.at;
  element("why").textContent = picture.why;
  showAge();
  alarms(picture.alarms);
  const counts = Object.entries(picture.counts.train ?? {}).map(([state, many]) => `${many} ${state}`);
  const disk = picture.disk;
  figures([
    ["jobs", counts.join(", ")],
    ["model", picture.checkpoint && `${picture.checkpoint}, step ${picture.step}`],
    ["marked", picture.marks.join(", ")],
    ["disk", disk && `${(disk.free_bytes / 2 ** 30).toFixed(1)} GiB free`],
    ["journal", `event ${picture.seq}`],
  ]);
  fill(element("running"), ["job", "name", ""], picture.running.map((job) => [job.id, job.name, progress(job)]));
  fill(element("waiting"), ["job", "name", "priority", ""],
    picture.waiting.slice(0, 20).map((job) => [job.id, job.name, job.priority, job.why]));
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
