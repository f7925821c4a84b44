// A program that serves nothing: asks URL/N for each N, and sets that key in Redis; then exits with CODE.
//
//   URL REDIS_PORT CODE N...
'use strict'
const http = require('node:http')
const Redis = require('ioredis')

const [url, port, code, ...numbers] = process.argv.slice(2)

function get (number) {
  return new Promise((resolve, reject) => {
    http.get(`${url}/${number}?rid=${number}`, (answer) => {
      answer.resume()
      answer.on('end', () => answer.statusCode === 200 ? resolve() : reject(new Error(answer.statusCode)))
    }).on('error', reject)
  })
}

async function main () {
  const redis = new Redis(Number(port), { password: process.env.PASSWORD })
  await Promise.all(numbers.map(async (number) => {
    await get(number)
    await redis.set(`key:${number}`, number)
  }))
  await redis.quit()
  process.exit(Number(code))
}

main()
