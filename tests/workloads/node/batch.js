// A program that serves nothing: for each word asks URL/N for the numbers in it, at once, and sets those keys in Redis;
// or waits for a line. Then exits with CODE.
//
//   URL REDIS_PORT CODE N,N... wait ...
'use strict'
const http = require('node:http')
const Redis = require('ioredis')

const [url, port, code, ...words] = process.argv.slice(2)

function get (number) {
  return new Promise((resolve, reject) => {
    http.get(`${url}/${number}?rid=${number}`, (answer) => {
      answer.resume()
      answer.on('end', () => answer.statusCode === 200 ? resolve() : reject(new Error(answer.statusCode)))
    }).on('error', reject)
  })
}

function line () {
  return new Promise((resolve) => {
    console.log('waits')
    process.stdin.once('data', resolve)
  })
}

async function main () {
  const redis = new Redis(Number(port), { password: process.env.PASSWORD })
  for (const word of words) {
    if (word === 'wait') {
      await line()
      continue
    }
    await Promise.all(word.split(',').map(async (number) => {
      await get(number)
      await redis.set(`key:${number}`, number)
    }))
  }
  await redis.quit()
  process.exit(Number(code))
}

main()
